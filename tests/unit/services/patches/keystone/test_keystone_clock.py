"""Stamps of tokens and revocations without Keystone; test_keystone_api.py tests them in it."""

from datetime import datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from upstream import inside

from atoll.services.patches.keystone.clock import MARK_FILE, Now, Stamps

NOON = datetime(2026, 11, 29, 12)  # noqa: DTZ001 - as Keystone's
HOUR = timedelta(hours=1)
S = timedelta(seconds=1)


class Site:
    """A Keystone with its clock and its revocations."""

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


def test_tokens_after_a_revocation_from_the_future_are_valid(site):
    site.time += HOUR
    revoked = site.revoke()
    site.time -= HOUR
    assert site.issue() > revoked


@pytest.mark.parametrize("revoked", [NOON + 25 * HOUR, datetime(9000, 1, 1), datetime.max])  # noqa: DTZ001, DTZ901 - as Keystone's
def test_a_revocation_that_no_clock_can_have_made_is_not_followed(site, revoked):
    site.revoked = revoked
    token = site.issue()
    assert token == NOON
    site.revoked = None
    assert site.revoke() == NOON, "a token issued afterwards must not be affected"


def test_a_site_alone_follows_its_own_revocations_however_far_its_clock_was_ahead(site):
    site.time += 2000 * 24 * HOUR
    site.issue()
    revoked = site.revoke()
    site.time = NOON
    assert site.issue() > revoked


def test_a_revocation_reaches_tokens_that_other_sites_have_issued_after_one_from_the_future(tmp_path):
    """Both sites know of the revocation; the second has issued no token since it arrived."""
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
def test_a_revocation_ends_existing_tokens_only_whatever_the_clock_does(tmp_path_factory, steps):
    site = Site(tmp_path_factory.mktemp("site"))
    issued = []
    for step in steps:
        site.time += 2 * S
        if step == "issue":
            token = site.issue()
            # Within the second of a revocation, Keystone itself can't order the two: such a token is refused.
            assert site.revoked is None or token > site.revoked or token == site.revoked == site.time
            issued.append(token)
        elif step == "revoke":
            issued_before = site.revoke()
            assert all(token <= issued_before for token in issued)
        elif step == "restart":
            site.restart()
        else:
            site.time += step * S


def test_a_fixed_time_holds_for_one_thread_and_one_block():
    now = Now(lambda: 1_700_000_000_123_456_789)
    assert now.pop(0) == datetime(2023, 11, 14, 22, 13, 20, 123456)  # noqa: DTZ001 - as Keystone's
    with now.fixed(NOON):
        assert now.pop(0) == NOON
    assert now.pop(0) == now()


REVOKED = """
    from datetime import datetime, timedelta
    import keystone.conf
    keystone.conf.configure()
    keystone.conf.CONF([], project="keystone", default_config_files=[])
    from oslo_db import options
    options.set_defaults(keystone.conf.CONF, connection=f"sqlite:///{sys.argv[1]}")
    from keystone.common import sql
    from keystone.revoke.backends.sql import Revoke, RevocationEvent

    noon, hour = datetime(2026, 11, 29, 12), timedelta(hours=1)
    with sql.session_for_write() as session:
        RevocationEvent.__table__.create(session.connection())
        session.add(RevocationEvent(user_id="u", issued_before=noon, revoked_at=noon))
    token = dict.fromkeys(
        ("trustor_id", "trustee_id", "trust_id", "identity_domain_id", "assignment_domain_id", "project_id", "audit_id",
         "audit_chain_id", "access_token_id", "consumer_id", "roles")
    ) | {"user_id": "u", "roles": []}
    tell([len(Revoke()._list_token_events(token | {"issued_at": noon + ahead})) for ahead in (-hour, hour)])
"""


def test_upstream_does_not_revoke_tokens_of_a_clock_that_was_ahead(tmp_path):
    """If this fails, patches/keystone/clock.py need not order revocations."""
    assert inside(REVOKED, str(tmp_path / "keystone.db")) == [1, 0]
