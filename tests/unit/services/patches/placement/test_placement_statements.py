"""Statements of Placement's requests, with upstream's whole application on a database of its own."""

import pytest
from test_abandoned_consumers import REQUESTS
from upstream import inside

STATEMENTS = (
    REQUESTS
    + """
    import sqlalchemy

    statements = []

    @sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, *_):
        statements.append(statement)

    def counted(*arguments):
        statements.clear()
        answer = ask(*arguments)
        texts = [" ".join(each.split()) for each in statements]
        return {
            "answer": answer,
            "names": sum(each.endswith(("FROM traits", "FROM resource_classes")) for each in texts),
            "consumers": sum(each.startswith(("DELETE FROM consumers", "SELECT consumers.uuid FROM consumers LEFT")) for each in texts),
        }
"""
)

CASES = """
    find = ("GET", "/allocation_candidates?resources=VCPU:1&required=HW_CPU_X86_AVX")
    ask("PUT", f"/resource_providers/{HOST}/traits", {"resource_provider_generation": 1, "traits": ["HW_CPU_X86_AVX"]})
    ask(*find)
    found = {"find": counted(*find), "claim": counted("PUT", f"/allocations/{OLD}", give(1))}
    generation = ask("GET", f"/allocations/{OLD}")[1]["consumer_generation"]
    found["release"] = counted("PUT", f"/allocations/{OLD}", give(0, generation))
    found["left"] = [consumer for consumer in (OLD,) if holds(consumer)]
    tell(found)
"""

CHANGES = """
    from placement import context, db_api as placement_db
    from placement.objects import trait

    def listed(kind, key):
        return [each for each in ([item["name"] if isinstance(item, dict) else item for item in ask("GET", f"/{kind}")[1][key]])
                if each.startswith("CUSTOM_")]

    def both():
        return [listed("traits", "traits"), listed("resource_classes", "resource_classes")]

    def asked(trait_name, class_name):
        return [ask("GET", f"/allocation_candidates?resources={class_name}:1&required={trait_name}")[0]]

    found = {"none": both(), "unknown": asked("CUSTOM_T", "CUSTOM_C")}
    ask("PUT", "/traits/CUSTOM_T")
    ask("PUT", "/resource_classes/CUSTOM_C")
    found["made"], found["known"] = both(), asked("CUSTOM_T", "CUSTOM_C")
    ask("PUT", "/resource_classes/CUSTOM_C", None)
    ask("DELETE", "/traits/CUSTOM_T")
    ask("DELETE", "/resource_classes/CUSTOM_C")
    found["gone"], found["unknown again"] = both(), asked("CUSTOM_T", "CUSTOM_C")

    # A reading that began before a change must not be kept after it.
    shared = attribute_caches.TraitCache
    shared._kept.forget()
    upstream = attribute_caches.attribute_cache._AttributeCache._refresh_from_db

    def overtaken(self, ctx):
        upstream(self, ctx)
        attribute_caches.attribute_cache._AttributeCache._refresh_from_db = upstream
        ask("PUT", "/traits/CUSTOM_LATE")

    attribute_caches.attribute_cache._AttributeCache._refresh_from_db = overtaken
    stale = ask("GET", "/traits?name=in:CUSTOM_LATE")
    listed("traits", "traits")
    found["overtaken"] = both()[0]
    # A failed creation changes nothing.
    found["twice"] = [ask("POST", "/resource_classes", {"name": "CUSTOM_D"})[0], ask("POST", "/resource_classes", {"name": "CUSTOM_D"})[0]]
    found["after"] = both()[1]
    tell(found)
"""

OURS = """
    from atoll.services.patches.placement import attribute_caches, ended_consumers
    attribute_caches.install()
    ended_consumers.install()
"""


@pytest.fixture(scope="module")
def ours():
    return inside(STATEMENTS + OURS + CASES)


@pytest.fixture(scope="module")
def stock():
    return inside(STATEMENTS + CASES)


@pytest.fixture(scope="module")
def changed():
    return inside(STATEMENTS + OURS + CHANGES)


def test_names_are_read_once(ours):
    assert [ours[each]["names"] for each in ("find", "claim", "release")] == [0, 0, 0]


def test_upstream_reads_names_in_each_request(stock):
    """If this fails, upstream shares its caches, and services/patches/placement/attribute_caches.py can go."""
    assert stock["find"]["names"] == 2
    assert stock["claim"]["names"] == 1


def test_answers_are_the_same(ours, stock):
    assert {name: ours[name]["answer"] for name in ("find", "claim", "release")} == {
        name: stock[name]["answer"] for name in ("find", "claim", "release")
    }
    assert ours["find"]["answer"][0] == 200


def test_each_request_sees_the_changes_before_it(changed):
    assert changed["none"] == [[], []]
    assert changed["made"] == [["CUSTOM_T"], ["CUSTOM_C"]]
    assert changed["gone"] == [[], []]
    assert changed["unknown"] == changed["unknown again"] == [400]
    assert changed["known"] == [200]
    assert changed["twice"] == [201, 409]
    assert changed["after"] == ["CUSTOM_D"]


def test_a_reading_that_a_change_overtook_is_not_kept(changed):
    assert changed["overtaken"] == ["CUSTOM_LATE"]


def test_no_consumers_are_looked_for_among_none(ours):
    assert ours["claim"]["consumers"] == 0


def test_a_consumer_that_was_left_without_allocations_is_deleted(ours):
    assert ours["release"]["consumers"] == 2
    assert ours["left"] == []


def test_upstream_looks_for_consumers_among_none(stock):
    """If this fails, upstream leaves these statements out, and services/patches/placement/ended_consumers.py can go."""
    assert stock["claim"]["consumers"] == 2
