"""Stamps of tokens and revocations, without Keystone; test_keystone_api.py has them in it."""

from datetime import datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from upstream import check

from atoll.services.keystone_clock import MARK_FILE, Now, Stamps

NOON = datetime(2026, 11, 29, 12)  # noqa: DTZ001 - as Keystone's
HOUR = timedelta(hours=1)
S = timedelta(seconds=1)


class Site:
    """A Keystone with what it keeps."""

    def __init__(self, directory) -> None:
        self.time = NOON
        self.revoked = None
        self._mark = directory / MARK_FILE
        self.restart()

    def restart(self) -> None:
        self._stamps = Stamps(lambda: self.time, self._latest, self._mark)

    def _latest(self, until: datetime) -> datetime | None:
        return self.revoked if self.revoked is not None and self.revoked <= until else None

    def issue(self) -> datetime:
        return self._stamps.to_issue().replace(microsecond=0)

    def revoke(self) -> datetime:
        stamp = self._stamps.to_revoke(self.time.replace(microsecond=0))
        self.revoked = max(self.revoked or stamp, stamp)
        return stamp


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def test_a_right_clock_is_followed(site):
    assert site.issue() == NOON
    site.time += 90 * S
    assert site.revoke() == NOON + 90 * S
    site.time += 2 * S
    assert site.issue() == NOON + 92 * S


@pytest.mark.parametrize("restarted", [False, True])
def test_tokens_of_a_clock_that_was_ahead_are_revoked(site, restarted):
    site.time += HOUR
    token = site.issue()
    site.time -= HOUR
    if restarted:
        site.restart()
    assert site.revoke() >= token


def test_tokens_after_a_revocation_from_the_future_count(site):
    site.time += HOUR
    revoked = site.revoke()
    site.time -= HOUR
    assert site.issue() > revoked


@pytest.mark.parametrize("revoked", [NOON + 25 * HOUR, datetime(9000, 1, 1), datetime.max])  # noqa: DTZ001, DTZ901
def test_a_revocation_that_no_clock_can_have_made_is_not_followed(site, revoked):
    site.revoked = revoked
    token = site.issue()
    assert token == NOON
    site.revoked = None
    assert site.revoke() == NOON, "nor is what was issued after it"


def test_a_site_alone_follows_its_own_revocations_however_far_its_clock_was_ahead(site):
    site.time += 2000 * 24 * HOUR
    site.issue()
    revoked = site.revoke()
    site.time = NOON
    assert site.issue() > revoked


def test_a_revocation_reaches_tokens_that_other_sites_have_issued_after_one_from_the_future(tmp_path):
    """Both know of the same revocation; the second has issued no token since it came."""
    sites = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        sites.append(Site(tmp_path / name))
        sites[-1].revoked = NOON + HOUR
    token = sites[0].issue()
    assert token > NOON + HOUR
    assert sites[1].revoke() >= token


@example(["issue", "restart", 45, "revoke", 13, "issue"])
@given(st.lists(st.one_of(st.sampled_from(["issue", "revoke", "restart"]), st.integers(-7200, 7200)), max_size=40))
def test_whatever_the_clock_does_a_revocation_ends_what_was_there_and_nothing_later(tmp_path_factory, steps):
    site = Site(tmp_path_factory.mktemp("site"))
    issued = []
    for step in steps:
        site.time += 2 * S
        if step == "issue":
            token = site.issue()
            # In the very second of a revocation Keystone itself can't tell them apart: such a token is refused.
            assert site.revoked is None or token > site.revoked or token == site.revoked == site.time
            issued.append(token)
        elif step == "revoke":
            issued_before = site.revoke()
            assert all(token <= issued_before for token in issued)
        elif step == "restart":
            site.restart()
        else:
            site.time += step * S


def test_what_was_fixed_is_fixed_for_one_thread_and_for_a_moment():
    now = Now(lambda: 1_700_000_000_123_456_789)
    assert now.pop(0) == datetime(2023, 11, 14, 22, 13, 20, 123456)  # noqa: DTZ001
    with now.fixed(NOON):
        assert now.pop(0) == NOON
    assert now.pop(0) == now()


def test_upstream_is_what_keystones_clock_was_written_against():
    check(
        "keystone",
        {
            ("keystone/revoke/core.py", "Manager.revoke"): "8759a0ca",
            ("keystone/token/providers/jws/core.py", "JWSFormatter.create_token"): "ecd7cdb5",
            ("keystone/identity/backends/sql_model.py", "Password.created_at"): "bba877c2",
            ("keystone/revoke/backends/sql.py", "Revoke._list_token_events"): "46ca3a9e",
        },
        "services/keystone_clock.py",
    )
    check(
        "oslo.utils",
        {("oslo_utils/timeutils.py", "utcnow"): "833fa6a9", ("oslo_utils/timeutils.py", "utcnow_ts"): "aad6cfea"},
        "services/keystone_clock.py",
    )
