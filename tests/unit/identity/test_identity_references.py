"""Existing records: entered one by one, the result is that of all at once."""

from hypothesis import given
from hypothesis import strategies as st

from atoll.identity.references import Reference, References

RECORDS = [("kind", str(number)) for number in range(7)]
PUTS = st.lists(st.tuples(st.sampled_from(RECORDS), st.none() | st.sets(st.sampled_from(RECORDS), max_size=3)), max_size=25)


def there(parents: dict[Reference, set[Reference]]) -> set[Reference]:
    """Return the existing records by definition: those whose parents all exist, beginning with those that have none."""
    found: set[Reference] = set()
    while True:
        more = {record for record, needed in parents.items() if needed <= found} - found
        if not more:
            return found
        found |= more


@given(PUTS)
def test_incremental_is_exact(puts):
    references, parents = References(), {}
    for record, needed in puts:
        before = there(parents)
        if needed is None:
            parents.pop(record, None)
        else:
            parents[record] = needed
        assert references.put(record, needed) == before ^ there(parents)
        assert {each for each in RECORDS if each in references} == there(parents)


def test_child_comes_before_its_parent():
    references = References()
    user, domain, grant = ("user", "u"), ("project", "d"), ("assignment", "g")
    assert references.put(grant, [user, domain]) == set()
    assert references.put(user, [domain]) == set()
    assert references.put(domain, []) == {user, domain, grant}
    assert references.put(domain, None) == {user, domain, grant}


def test_ring_of_parents_is_not_there():
    references = References()
    one, other = ("project", "1"), ("project", "2")
    references.put(one, [])
    references.put(other, [one])
    assert references.put(one, [other]) == {one, other}


def test_hostile_chain_of_parents_ends_somewhere():
    references = References()
    for number in range(2000):
        references.put(("project", str(number)), [("project", str(number - 1))] if number else [])
    assert ("project", "5") in references
    assert ("project", "1999") not in references
