"""Random changes at three sites in any order of arrival: in the end the sites are equal, and have all that was not deleted."""

import shutil
import tempfile
from pathlib import Path
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, rule, run_state_machine_as_test
from identities import Node, converge

from atoll.mesh import tombstones

SITES = st.sampled_from(["paris", "lyon", "nice"])
NAMES = st.sampled_from(["bob", "eve", "bob-00000000"])
ID = st.integers(1, 2**32).map(lambda number: f"{number:08x}" * 4)


class Merging(RuleBasedStateMachine):
    """Users, domains and memberships of three sites."""

    template: Path
    domains = Bundle("domains")
    users = Bundle("users")
    groups = Bundle("groups")

    def __init__(self) -> None:
        super().__init__()
        self.patch = mock.patch.multiple(tombstones, MIN_WASTE=0, is_worthwhile=lambda waste, _weight: waste > 0)
        self.patch.start()
        self.directory = Path(tempfile.mkdtemp(prefix="atoll-merging-"))
        self.nodes = {name: Node(name, self.directory / name, self.template) for name in ("paris", "lyon", "nice")}
        for node in self.nodes.values():
            node.replica.prepare()
        self.domain_of: dict[str, str] = {}
        self.deleted: set[str] = set()

    def has(self, site: str, table: str, wanted: str) -> bool:
        return bool(self.nodes[site].sql(f'SELECT 1 FROM "{table}" WHERE id = ?', wanted))

    def is_free(self, site: str, table: str, domain: str, name: str) -> bool:
        return not self.nodes[site].sql(f'SELECT 1 FROM "{table}" WHERE domain_id = ? AND name = ?', domain, name)

    @rule(target=domains, site=SITES, new=ID)
    def make_domain(self, site, new):
        if new not in self.domain_of:
            self.nodes[site].domain(f"domain-{new}", new)
            self.domain_of[new] = "default"
        return new

    @rule(target=users, site=SITES, new=ID, name=NAMES, domain=domains | st.just("default"))
    def make_user(self, site, new, name, domain):
        if new not in self.domain_of and self.has(site, "project", domain) and self.is_free(site, "local_user", domain, name):
            self.nodes[site].user(name, new, domain_id=domain)
            self.domain_of[new] = domain
        return new

    @rule(target=groups, site=SITES, new=ID, name=NAMES)
    def make_group(self, site, new, name):
        if new not in self.domain_of and self.is_free(site, "group", "default", name):
            self.nodes[site].sql("INSERT INTO 'group' (id, name, domain_id, extra) VALUES (?, ?, 'default', '{}')", new, name)
            self.domain_of[new] = "default"
        return new

    @rule(site=SITES, user=users, name=NAMES)
    def rename(self, site, user, name):
        for (domain,) in self.nodes[site].sql("SELECT domain_id FROM local_user WHERE user_id = ?", user):
            if self.is_free(site, "local_user", domain, name):
                self.nodes[site].sql("UPDATE local_user SET name = ? WHERE user_id = ?", name, user)

    @rule(site=SITES, user=users, value=st.integers(0, 1))
    def enable(self, site, user, value):
        self.nodes[site].sql("UPDATE user SET enabled = ? WHERE id = ?", value, user)

    @rule(site=SITES, user=users, password=st.text("abc", max_size=3))
    def set_password(self, site, user, password):
        for (integer,) in self.nodes[site].sql("SELECT id FROM local_user WHERE user_id = ?", user):
            self.nodes[site].sql("UPDATE password SET expires_at = 'now' WHERE local_user_id = ?", integer)
            self.nodes[site].sql("INSERT INTO password (local_user_id, password_hash, created_at) VALUES (?, ?, 'now')", integer, password)

    @rule(site=SITES, user=users, group=groups)
    def join(self, site, user, group):
        if self.has(site, "user", user) and self.has(site, "group", group):
            self.nodes[site].sql("INSERT OR IGNORE INTO user_group_membership VALUES (?, ?)", user, group)

    @rule(site=SITES, user=users, group=groups)
    def leave(self, site, user, group):
        self.nodes[site].sql("DELETE FROM user_group_membership WHERE user_id = ? AND group_id = ?", user, group)

    @rule(site=SITES, user=consumes(users))
    def delete_user(self, site, user):
        if self.has(site, "user", user):
            self.nodes[site].sql("DELETE FROM user_group_membership WHERE user_id = ?", user)
            self.nodes[site].sql("DELETE FROM user WHERE id = ?", user)
            self.deleted.add(user)

    @rule(site=SITES, domain=consumes(domains))
    def delete_domain(self, site, domain):
        if self.has(site, "project", domain):
            for (user,) in self.nodes[site].sql("SELECT id FROM user WHERE domain_id = ?", domain):
                self.nodes[site].sql("DELETE FROM user_group_membership WHERE user_id = ?", user)
                self.nodes[site].sql("DELETE FROM user WHERE id = ?", user)
            self.nodes[site].sql("DELETE FROM project WHERE id = ?", domain)
            self.deleted.add(domain)

    @rule(site=SITES)
    def pull(self, site):
        self.nodes[site].replica.pull()

    @rule(site=SITES)
    def push(self, site):
        self.nodes[site].push()

    @rule(site=SITES, other=SITES)
    def hear(self, site, other):
        self.nodes[site].site.catch_up(self.nodes[other].site)

    @rule(site=SITES)
    def restart(self, site):
        self.nodes[site].restart()

    @rule(hours=st.integers(1, 20))
    def wait(self, hours):
        for node in self.nodes.values():
            node.site.clock.ms += hours * 3_600_000

    @rule(site=SITES)
    def tidy(self, site):
        """Reduce deleted records, and drop them once every site has the deletion."""
        document = self.nodes[site].document
        equal = len({node.document.digest() for node in self.nodes.values()}) == 1
        document.tidy(document.written if equal else 0)

    def teardown(self) -> None:
        self.patch.stop()
        nodes = list(self.nodes.values())
        try:
            converge(nodes)
            first = nodes[0].contents()
            for node in nodes:
                node.check()
                assert node.contents() == first
                assert node.replica.conflicts() == nodes[0].replica.conflicts()
            kept = {each for each, domain in self.domain_of.items() if each not in self.deleted and domain not in self.deleted}
            for each in kept:
                assert any(self.has("paris", table, each) for table in ("user", "group", "project")), (
                    "a record that nobody deleted is missing"
                )
            for each in self.domain_of.keys() - kept:
                assert not any(self.has("paris", table, each) for table in ("user", "group", "project")), "a deleted record still exists"
        finally:
            for node in nodes:
                node.close()
            shutil.rmtree(self.directory)


def test_sites_agree_and_keep_all(keystone_template):
    machine = type("MergingWithTemplate", (Merging,), {"template": keystone_template})
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        machine, settings=settings(max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=checks)
    )
