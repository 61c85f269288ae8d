import pytest

from atoll.gateway.scope.evaluate import MOST_CHOICES, Plan, evaluate
from atoll.gateway.scope.explain import explain
from atoll.gateway.scope.model import ScopeError
from atoll.gateway.scope.parser import parse

MEMBERS = ("paris", "lyon", "nice", "lille")
RTTS = {frozenset(("paris", "lyon")): 12.0, frozenset(("paris", "nice")): 20.0, frozenset(("lyon", "nice")): 5.0}


def rtt(start: str, end: str) -> float | None:
    return RTTS.get(frozenset((start, end)))


def plan(text: str, service: str = "compute") -> Plan | None:
    return evaluate(parse(text), service, MEMBERS, rtt)


@pytest.mark.parametrize(
    ("text", "kind", "choices"),
    [
        ("{compute: lyon}", "sharing", [["lyon"]]),
        ("{compute: paris & lyon}", "replicas", [["paris", "lyon"]]),
        ("{compute: lyon || paris}", "alternatives", [["lyon"], ["paris"]]),
        ("{compute: lyon || lyon}", "sharing", [["lyon"]]),
        ("{compute: paris & lyon || nice}", "alternatives", [["paris", "lyon"], ["nice"]]),
        ("{compute: (paris || lyon) & nice}", "alternatives", [["paris", "nice"], ["lyon", "nice"]]),
        (
            "{compute: (paris || lyon) & (paris || nice)}",
            "alternatives",
            [["paris"], ["paris", "nice"], ["lyon", "paris"], ["lyon", "nice"]],
        ),
        ("{around: paris, 20ms}", "around", [["paris"], ["lyon"], ["nice"]]),
        ("{around: paris, 19.9ms}", "around", [["paris"], ["lyon"]]),
        ("{around: nice, 10ms}", "around", [["nice"], ["lyon"]]),
        ("{around: lille, 50ms}", "around", [["lille"]]),  # whose distance from others is not known
        ("{compute: lille, around: paris, 20ms}", "sharing", [["lille"]]),
    ],
)
def test_plan(text, kind, choices):
    assert plan(text) == Plan(kind, tuple(map(tuple, choices)))


def test_sites_are_those_of_all_choices():
    found = plan("{compute: (paris || lyon) & nice}")
    assert found is not None
    assert found.sites == ("paris", "nice", "lyon")


@pytest.mark.parametrize(("text", "service"), [("{}", "compute"), ("{image: lyon}", "compute"), ("{around: paris, 20ms}", "identity")])
def test_nothing_is_said(text, service):
    assert plan(text, service) is None


@pytest.mark.parametrize(
    ("text", "service", "column", "what"),
    [
        ("{image: rome}", "compute", 9, "there is no site `rome`: expected one of lille, lyon, nice, paris"),
        ("{image: lyon & (rome || nice)}", "image", 17, "there is no site `rome`"),
        ("{around: rome, 5ms}", "identity", 10, "there is no site `rome`"),
        ("{compute: paris % lyon}", "compute", 11, "only a network can span sites"),
        ("{network: paris || lyon % nice}", "network", 20, "networks do not span sites yet"),
        ("{identity: paris & lyon}", "identity", 12, "identity is the same at every site"),
        ("{placement: paris & lyon}", "placement", 13, "the hosts of its own site"),
    ],
)
def test_what_is_refused(text, service, column, what):
    with pytest.raises(ScopeError, match=what) as caught:
        plan(text, service)
    assert caught.value.column == column


def test_a_scope_can_not_be_made_to_mean_thousands_of_choices():
    members = [f"s{number}" for number in range(20)]
    pairs = " & ".join(f"(s{number} || s{number + 1})" for number in range(0, 20, 2))
    with pytest.raises(ScopeError, match=f"1024 choices of sites: expected at most {MOST_CHOICES}"):
        evaluate(parse(f"{{compute: {pairs}}}"), "compute", members, rtt)


def test_explain_says_what_would_go_where():
    found = explain("{image: lyon, compute: paris & lyon, network: paris % lyon}", "nice", MEMBERS, ["paris"], rtt)
    assert found["scope"] == "{image: lyon, compute: paris & lyon, network: paris % lyon}"
    assert found["services"]["image"]["says"] == "everything at lyon"
    assert found["services"]["compute"]["choices"] == [["paris", "lyon"]]
    assert found["services"]["compute"]["says"] == "created at paris and lyon; listed from paris, lyon; updated and deleted at all of them"
    assert found["services"]["network"]["kind"] == "refused"
    assert "do not span sites yet" in found["services"]["network"]["says"]
    assert found["services"]["placement"]["says"] == "handled as without a scope, by nice"
    assert found["sites"] == {"lyon": {"rtt_ms": 5.0, "reachable": False}, "paris": {"rtt_ms": 20.0, "reachable": True}}


@pytest.mark.parametrize(("text", "column"), [("{compute}", 9), ("{compute: rome}", 11)])
def test_explain_points_at_the_column(text, column):
    assert explain(text, "paris", MEMBERS, [], rtt)["invalid"]["column"] == column
