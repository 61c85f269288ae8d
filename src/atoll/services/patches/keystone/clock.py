"""Keystone's clock: the time that the cloud's sites agree on, with timestamps whose order holds even if that time is set back.

Keystone accepts only the latest of a user's passwords, by their dates; and it considers a token revoked if the token was issued, by the
clock, before the revocation. If the clock was ahead and is set right, a new password is not accepted and a token cannot be revoked until
the clock has caught up. Three things are changed:

- *The time of day* is the agreed one (`mesh/agreed_time.py`), by oslo.utils' own override of its clock (`timeutils.set_time_override`).
  The override takes a list of times; here the list has no end, and each item is the agreed time. All of Keystone's dates come from it.
- *A password* gets a date after the dates of the user's earlier passwords (by SQLAlchemy's event `append` of `LocalUser.passwords`).
- *Tokens and revocations* have the stamps of a hybrid clock. While the time is before the latest revocation, tokens are issued a second
  after it. A revocation concerns all tokens up to that second, which another site may have issued, and all that were issued here
  (`Manager.revoke` in keystone/revoke/core.py, `JWSFormatter.create_token`). A file keeps the latest stamp, a minute ahead, so that a
  restart forgets nothing. A revocation of another site is ignored here if its time is further ahead than clocks may differ: after one dated
  in the year 9999, every later token would outlive every later revocation.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from atoll.files import write_private
from atoll.identity.bounds import CLOCKS_APART_S
from atoll.mesh.agreed_time import FILE, TimeReader

MARK_FILE = "latest-token"
"""Name of a file below Keystone's data: a time, in seconds since 1970, after which this site has stamped no token or revocation."""

_S = timedelta(seconds=1)
_AHEAD = timedelta(seconds=60)
_APART = timedelta(seconds=CLOCKS_APART_S)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - Keystone's dates have no zone, and are of UTC


class Now:
    """An endless list of times for `timeutils.set_time_override`, whose first element is always the present.

    Args:
        now_ns: returns the time in nanoseconds since 1970.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._own = threading.local()

    def __call__(self) -> datetime:
        """Return the time in UTC, without a zone."""
        seconds, rest = divmod(self._now_ns(), 1_000_000_000)
        return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None, microsecond=rest // 1000)

    def pop(self, _index: int) -> datetime:
        """Return the time; in a thread that is inside `fixed`, the time that was fixed."""
        return getattr(self._own, "stamp", None) or self()

    @contextmanager
    def fixed(self, stamp: datetime) -> Iterator[None]:
        """Stop the time for this thread while the block runs."""
        self._own.stamp = stamp
        try:
            yield
        finally:
            self._own.stamp = None


class Stamps:
    """A source of stamps for tokens and revocations that keep their order.

    Args:
        now: returns the time.
        latest_revocation: returns the latest time up to which tokens are revoked, of the revocations up to a given time; `None` if there
            are none.
        mark: the path of `MARK_FILE`.
    """

    def __init__(self, now: Callable[[], datetime], latest_revocation: Callable[[datetime], datetime | None], mark: Path) -> None:
        self._now = now
        self._latest_revocation = latest_revocation
        self._path = mark
        self._lock = threading.Lock()
        self._marked = self._given = _EPOCH + timedelta(seconds=int(mark.read_text(encoding="ascii"))) if mark.exists() else _EPOCH

    def to_issue(self) -> datetime:
        """Return the stamp of a token that is issued now, which is after all revocations."""
        now = self._now()
        stamp = self._after_revocations(now) or now
        self._give(stamp)
        return stamp

    def to_revoke(self, issued_before: datetime) -> datetime:
        """Return the time up to which a revocation of all existing tokens reaches.

        Args:
            issued_before: the time that Keystone would use.
        """
        now = self._now()
        elsewhere = self._after_revocations(now) or issued_before
        with self._lock:
            here = self._given.replace(microsecond=0) if self._given > now else issued_before
        stamp = max(issued_before, elsewhere, here)
        self._give(stamp)
        return stamp

    def _after_revocations(self, now: datetime) -> datetime | None:
        """Return the stamp that each site with the same revocations gives to a token now; `None` if the time needs no correction."""
        revoked = self._latest_revocation(max(now + _APART, self._marked))
        return revoked + _S if revoked and revoked >= now + _S else None

    def _give(self, stamp: datetime) -> None:
        """Record a stamp that was given to a token or a revocation."""
        with self._lock:
            self._given = max(self._given, stamp)
            if self._given > self._marked:
                self._marked = self._given + _AHEAD
                write_private(self._path, str(int((self._marked - _EPOCH).total_seconds())))


def _after_the_others(user: Any, password: Any, _initiator: object) -> None:
    """Give a new password of a user a date after the dates of the user's other passwords."""
    latest = max((each.created_at for each in user.passwords if each is not password and each.created_at), default=None)
    if latest and password.created_at and password.created_at <= latest:
        password.created_at = latest + timedelta(microseconds=1)


def _latest_revocation(until: datetime) -> datetime | None:
    from keystone.common import sql
    from keystone.revoke.backends.sql import RevocationEvent
    from sqlalchemy import func

    with sql.session_for_read() as session:
        latest = session.query(func.max(RevocationEvent.issued_before)).filter(RevocationEvent.issued_before <= until)
        return latest.scalar()


def install(sockets: Path, data: Path) -> None:
    """Give Keystone this clock. Call it after the token formatter was replaced, and before the token provider is created.

    Args:
        sockets: the directory of the site's sockets, where its gateway publishes the agreed time.
        data: the directory of Keystone's data.
    """
    from keystone.identity.backends.sql_model import LocalUser
    from keystone.revoke import core as revocation
    from keystone.token.providers.jws import core as tokens
    from oslo_utils import timeutils
    from sqlalchemy import event

    now = Now(TimeReader(sockets / FILE).now_ns)
    stamps = Stamps(now, _latest_revocation, data / MARK_FILE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        timeutils.set_time_override(now)
    event.listen(LocalUser.passwords, "append", _after_the_others)

    class StampingFormatter(tokens.JWSFormatter):
        def create_token(self, *arguments: Any, **options: Any) -> Any:
            with now.fixed(stamps.to_issue()):
                return super().create_token(*arguments, **options)

    tokens.JWSFormatter = StampingFormatter
    revoke = revocation.Manager.revoke

    def stamped(self: Any, revoked: Any) -> None:
        revoked.issued_before = stamps.to_revoke(revoked.issued_before)
        revoke(self, revoked)

    revocation.Manager.revoke = stamped
