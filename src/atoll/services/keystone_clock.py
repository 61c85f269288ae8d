"""The clock of Keystone: the time that the cloud's sites agree on, and an order that holds when that time goes back.

Keystone takes the password that was made last, by the clock, for a user's only one; and a token for revoked if the clock, when it was
issued, showed an earlier time than when it was revoked. If the clock was ahead and is set right, a new password is not accepted and a token
can't be revoked until the clock has caught up. Three things are changed:

- *The time of day* is the agreed one (`mesh/agreed_time.py`), by oslo.utils' own override of its clock (`timeutils.set_time_override`),
  which takes a list of times: here, one that never ends. All of Keystone's dates come from it.
- *A password* is dated after those that its user has (SQLAlchemy's event for what is appended to `LocalUser.passwords`).
- *Tokens and revocations* are stamped as by a hybrid clock: while the time is before the latest revocation, tokens are issued a second
  after that; and revocations concern all up to that second, which another site may have issued, and all that was issued here
  (`Manager.revoke` in keystone/revoke/core.py, `JWSFormatter.create_token`). How late tokens were issued is kept in a file, a minute ahead
  of them, so that a restart forgets nothing. A revocation that is further ahead than clocks may be apart, and not of this site, is not
  followed: one of the year 9999 would have every later token outlive every later revocation.
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
from atoll.mesh.agreed_time import FILE, Reader
from atoll.mesh.identity.bounds import CLOCKS_APART_S

MARK_FILE = "latest-token"
"""Below the site's data of Keystone: a time that no token of this site is of, nor revoked, after, in seconds since 1970."""

_S = timedelta(seconds=1)
_AHEAD = timedelta(seconds=60)
_APART = timedelta(seconds=CLOCKS_APART_S)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - Keystone's dates have no zone, and are of UTC


class Now:
    """A list of times for `timeutils.set_time_override`, whose first is always the present.

    Args:
        now_ns: the time, nanoseconds since 1970.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._own = threading.local()

    def __call__(self) -> datetime:
        """The time, in UTC and without a zone."""
        seconds, rest = divmod(self._now_ns(), 1_000_000_000)
        return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None, microsecond=rest // 1000)

    def pop(self, _index: int) -> datetime:
        """The time, or for a thread that is inside `fixed` what was fixed."""
        return getattr(self._own, "stamp", None) or self()

    @contextmanager
    def fixed(self, stamp: datetime) -> Iterator[None]:
        """Have the time stand still for this thread."""
        self._own.stamp = stamp
        try:
            yield
        finally:
            self._own.stamp = None


class Stamps:
    """Gives tokens and revocations times that keep their order.

    Args:
        now: the time.
        latest_revocation: up to which time tokens are revoked at most, of the revocations up to a given time; None if there are none.
        mark: the file for `MARK_FILE`.
    """

    def __init__(self, now: Callable[[], datetime], latest_revocation: Callable[[datetime], datetime | None], mark: Path) -> None:
        self._now = now
        self._latest_revocation = latest_revocation
        self._path = mark
        self._lock = threading.Lock()
        self._marked = self._given = _EPOCH + timedelta(seconds=int(mark.read_text(encoding="ascii"))) if mark.exists() else _EPOCH

    def to_issue(self) -> datetime:
        """When a token is issued that is made now: after what is revoked."""
        now = self._now()
        stamp = self._after_revocations(now) or now
        self._give(stamp)
        return stamp

    def to_revoke(self, issued_before: datetime) -> datetime:
        """Up to when tokens are revoked by somebody who means those that there are.

        Args:
            issued_before: what Keystone would say.
        """
        now = self._now()
        elsewhere = self._after_revocations(now) or issued_before
        with self._lock:
            here = self._given.replace(microsecond=0) if self._given > now else issued_before
        stamp = max(issued_before, elsewhere, here)
        self._give(stamp)
        return stamp

    def _after_revocations(self, now: datetime) -> datetime | None:
        """When tokens are issued now at every site that knows the same revocations; None if that is the time."""
        revoked = self._latest_revocation(max(now + _APART, self._marked))
        return revoked + _S if revoked and revoked >= now + _S else None

    def _give(self, stamp: datetime) -> None:
        """Take note of a time that was given to a token or a revocation."""
        with self._lock:
            self._given = max(self._given, stamp)
            if self._given > self._marked:
                self._marked = self._given + _AHEAD
                write_private(self._path, str(int((self._marked - _EPOCH).total_seconds())))


def _after_the_others(user: Any, password: Any, _initiator: object) -> None:
    """Date a password that is appended to a user's after all of them."""
    latest = max((each.created_at for each in user.passwords if each is not password and each.created_at), default=None)
    if latest and password.created_at and password.created_at <= latest:
        password.created_at = latest + timedelta(microseconds=1)


def _latest_revocation(until: datetime) -> datetime | None:
    from keystone.common import sql
    from keystone.revoke.backends.sql import RevocationEvent
    from sqlalchemy import func

    with sql.session_for_read() as session:
        latest = session.query(func.max(RevocationEvent.issued_before)).filter(RevocationEvent.issued_before <= until)
        return latest.scalar()  # type: ignore[no-any-return]


def install(sockets: Path, data: Path) -> None:
    """Give Keystone this clock. Before the token provider is made, and after its formatter was replaced.

    Args:
        sockets: the directory of the site's sockets, where its gateway tells the agreed time.
        data: the directory of Keystone's data.
    """
    from keystone.identity.backends.sql_model import LocalUser
    from keystone.revoke import core as revocation
    from keystone.token.providers.jws import core as tokens
    from oslo_utils import timeutils
    from sqlalchemy import event

    now = Now(Reader(sockets / FILE).now_ns)
    stamps = Stamps(now, _latest_revocation, data / MARK_FILE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        timeutils.set_time_override(now)
    event.listen(LocalUser.passwords, "append", _after_the_others)

    class StampingFormatter(tokens.JWSFormatter):  # type: ignore[misc]
        def create_token(self, *arguments: Any, **options: Any) -> Any:
            with now.fixed(stamps.to_issue()):
                return super().create_token(*arguments, **options)

    tokens.JWSFormatter = StampingFormatter
    revoke = revocation.Manager.revoke

    def stamped(self: Any, revoked: Any) -> None:
        revoked.issued_before = stamps.to_revoke(revoked.issued_before)
        revoke(self, revoked)

    revocation.Manager.revoke = stamped
