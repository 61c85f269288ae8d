"""Operations on single sites while the others go on."""

import json

import pytest

from atoll.cloud.changes import NewSite
from atoll.cloud.summary import links_of, summary_of_site
from atoll.errors import AtollError
from atoll.site import wan
from atoll.site.down import down
from atoll.site.single_sites import add, kill, remove, start, stop
from atoll.site.sites import applied_cloud, known_sites
from atoll.site.up import up

FULL = {"keystone", "placement", "glance", "neutron", "nova", "gateway"}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "cloud.yaml"
    path.write_text("sites: [{name: paris}, {name: lyon}, {name: edge, kind: compute, control: paris}]\n")
    return path


@pytest.fixture
def coast(state, cache, runtime, file):
    """Return the double of the runtime with a cloud that is up."""
    up(state, cache, file)
    runtime.plans.clear()
    return runtime


def observe(_event):
    pass


def sites(names):
    return {name.partition("/")[0] for name in names}


def refused(code, call, *arguments):
    with pytest.raises(AtollError) as caught:
        call(*arguments)
    assert caught.value.kind.code == code
    return caught.value


def test_stopped_site_is_alone_in_that(state, coast):
    assert stop(state, ["lyon"], observe) == ("lyon",)
    assert stop(state, ["lyon"], observe) == ()
    assert sites(coast.signatures) == {"paris", "edge"}


def test_all_sites_can_be_stopped_and_the_supervisor_stays(state, coast):
    assert stop(state, ["lyon", "edge", "paris"], observe) == ("lyon", "edge", "paris")
    assert coast.alive
    assert coast.signatures == {}


def test_started_site_leaves_stopped_ones_alone(state, cache, coast):
    stop(state, ["lyon", "paris"], observe)
    outcome = start(state, cache, ["lyon"], observe)
    assert sites(outcome.started) == {"lyon"}
    assert sites(coast.signatures) == {"lyon", "edge"}
    assert start(state, cache, ["lyon"], observe).started == ()


def test_start_brings_a_whole_cloud_that_is_down_up_in_part(state, cache, coast):
    down(state)
    assert not coast.alive
    assert sites(start(state, cache, ["paris"], observe).started) == {"paris"}
    assert known_sites(state) == ["paris", "lyon", "edge"]


def test_compute_site_starts_with_its_control_site_or_after_it(state, cache, coast):
    stop(state, ["paris", "edge"], observe)
    error = refused("site.not_running", start, state, cache, ["edge"], observe)
    assert error.message == "paris, the control site of edge, is not running"
    assert sites(start(state, cache, ["edge", "paris"], observe).started) == {"paris", "edge"}


def test_compute_site_goes_on_while_others_start_without_its_control_site(state, cache, coast):
    stop(state, ["paris", "lyon"], observe)
    assert sites(start(state, cache, ["lyon"], observe).started) == {"lyon"}
    assert sites(coast.signatures) == {"lyon", "edge"}


def test_killed_sites_end_immediately_and_return_with_start(state, cache, coast):
    assert kill(state, ["paris", "lyon"], observe) == ("paris", "lyon")
    assert [sites(names) for names in coast.killed] == [{"paris", "lyon"}]
    assert len(coast.killed[0]) == 13  # five services and a gateway each, and the bus of paris
    assert kill(state, ["paris"], observe) == ()
    assert sites(start(state, cache, ["paris"], observe).started) == {"paris"}


@pytest.mark.parametrize("verb", [stop, kill])
def test_unknown_site_is_refused_and_a_cloud_that_is_down_is_not_an_error(state, coast, verb):
    refused("site.unknown", verb, state, ["rome"], observe)
    down(state)
    assert verb(state, ["lyon"], observe) == ()


def test_added_site_comes_up_and_the_others_are_left_alone(state, cache, coast):
    stop(state, ["lyon"], observe)
    outcome = add(state, cache, NewSite("rome"), observe)
    assert outcome.started == tuple(sorted(f"rome/{name}" for name in FULL))
    assert sites(coast.signatures) == {"paris", "edge", "rome"}
    assert summary_of_site(applied_cloud(state), "rome")["url"] == "http://127.0.0.1:15031/identity/v3"
    assert json.loads(json.dumps(summary_of_site(outcome.cloud, "edge")))["control"] == "paris"
    assert add(state, cache, NewSite("rome"), observe).started == ()


def test_added_compute_site_makes_its_control_site_one(state, cache, coast):
    outcome = add(state, cache, NewSite("tiny", "compute", "lyon"), observe)
    assert {"tiny/nova-compute", "tiny/map-host", "lyon/bus"} <= set(outcome.started)
    assert sites(outcome.started) == {"tiny", "lyon"}


@pytest.mark.parametrize(
    ("new", "text"),
    [
        (NewSite("R"), "sites[3].name: expected a name of 1 to 32"),
        (NewSite("rome", "compute"), "sites[3].kind: rome is a compute site: expected `control`"),
        (NewSite("lyon", "compute", "paris"), "lyon exists, and is a full site: expected another name"),
        (NewSite("rome", links={"paris": {}}), "atoll has no topology: expected no links and no location for rome"),
    ],
    ids=["name", "control", "kind", "links"],
)
def test_site_that_can_not_be_added_changes_nothing(state, cache, coast, new, text):
    before = state.cloud_file.read_text()
    error = refused("cloud.invalid", add, state, cache, new, observe)
    assert error.message.startswith(f"{new.name} can't be added: {text}")
    assert (state.cloud_file.read_text(), coast.plans) == (before, [])


def test_site_is_added_to_a_cloud_that_runs(state, cache, coast):
    down(state)
    refused("site.not_running", add, state, cache, NewSite("rome"), observe)


def test_without_a_cloud_there_is_nothing_to_add_to_or_to_remove_from(state, cache, runtime):
    refused("cloud.not_found", add, state, cache, NewSite("rome"), observe)
    refused("cloud.not_found", remove, state, ["rome"], observe)


def test_removed_site_is_gone_and_removing_it_again_is_not_an_error(state, coast):
    assert remove(state, ["lyon", "rome"], observe) == ("lyon",)
    assert known_sites(state) == ["paris", "edge"]
    assert not state.site("lyon").exists()
    assert remove(state, ["lyon"], observe) == ()


def test_something_of_the_cloud_remains(state, coast):
    error = refused("cloud.invalid", remove, state, ["lyon", "edge", "paris"], observe)
    assert error.hint == "`atoll destroy` deletes all of it"
    refused("site.needed", remove, state, ["paris"], observe)


class FakeWan:
    """A double of the WAN's client that records its calls."""

    def __init__(self):
        self.cuts, self.network = set(), None

    def describe(self):
        return {"addresses": {"paris": "10.77.0.1", "lyon": "10.77.1.1", "nice": "10.77.2.1"}, "cuts": sorted(self.cuts)}

    def cut(self, name):
        self.cuts.add(name)

    def heal(self, name):
        self.cuts.discard(name)

    def apply(self, network):
        self.network = network

    def close(self):
        pass


@pytest.fixture
def triangle(state, cache, runtime, tmp_path, monkeypatch):
    """Bring a cloud with a topology up, and return the calls to its WAN."""
    fake = FakeWan()
    monkeypatch.setattr(wan.Wan, "connect", lambda _directory: fake)
    monkeypatch.setattr(wan, "ensure", lambda *_arguments: {})
    monkeypatch.setattr(wan, "tie", lambda *_arguments: None)
    monkeypatch.setattr(wan, "close", lambda _state: None)
    path = tmp_path / "cloud.yaml"
    links = "{between: [paris, lyon]}, {between: [lyon, nice]}"
    path.write_text(f"sites: [{{name: paris}}, {{name: lyon}}, {{name: nice}}]\ntopology: {{links: [{links}]}}\n")
    up(state, cache, path)
    return fake


def test_killed_site_is_dark_until_it_is_started(state, cache, triangle):
    kill(state, ["paris", "nice"], observe)
    assert triangle.cuts == {"paris", "nice"}
    start(state, cache, ["paris"], observe)
    assert triangle.cuts == {"nice"}
    up(state, cache)
    assert triangle.cuts == set()


def test_site_that_was_cut_off_before_it_was_killed_is_so_after_its_start(state, cache, triangle):
    triangle.cut("paris")
    kill(state, ["paris"], observe)
    start(state, cache, ["paris"], observe)
    assert triangle.cuts == {"paris"}


def test_site_that_could_not_be_killed_is_not_dark(state, runtime, triangle, monkeypatch):
    def busy(_names):
        raise AtollError("state.busy", "another command is running")

    monkeypatch.setattr(runtime, "kill", busy)
    refused("state.busy", kill, state, ["paris"], observe)
    assert triangle.cuts == set()


def test_removed_site_is_taken_out_of_the_topology_and_of_the_wan(state, triangle):
    error = refused("cloud.invalid", remove, state, ["lyon"], observe)
    assert error.message == "without lyon: no path leads from paris to nice: expected links that connect all sites"
    assert remove(state, ["nice"], observe) == ("nice",)
    assert triangle.network.sites == ("paris", "lyon")
    assert applied_cloud(state).network == triangle.network


def test_added_site_is_linked(state, cache, triangle):
    error = refused("cloud.invalid", add, state, cache, NewSite("rome"), observe)
    assert "would have no link" in error.message
    outcome = add(state, cache, NewSite("rome", links={"nice": {"delay": "7ms"}}), observe)
    assert links_of(outcome.cloud, "rome") == ["nice:rome"]
    assert summary_of_site(outcome.cloud, "rome")["address"] == "10.77.3.1"
