"""Conflicts of names are settled alike at every site, in whatever order the claims arrive."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from atoll.identity.names import NameClaim, NameScope

LENGTH = 24
IDS = st.sampled_from([f"{number:02x}" * 4 + "0123456789" for number in range(6)] + ["0000000000aa", "0000000000ab", "short"])
NAMES = st.sampled_from(["bob", "bob-00000000", "bob-000000000", "b" * LENGTH, "b" * (LENGTH - 1) + "c", "", "é"])
EVENTS = st.lists(st.tuples(IDS, st.none() | NAMES, st.integers(0, 3)), max_size=30)


def told(events) -> tuple[NameScope, dict[str, NameClaim]]:
    scope, claims = NameScope(LENGTH), {}
    for who, name, created in events:
        if name is None:
            scope.release(who)
            claims.pop(who, None)
        else:
            claims[who] = NameClaim(created, who, name)
            scope.claim(claims[who])
    return scope, claims


def test_first_keeps_it_and_the_other_is_called_after_its_id():
    scope, _ = told([("1234567890", "bob", 5), ("abcdefghij", "bob", 4)])
    assert scope.settle() == {"1234567890"}
    assert [scope.name(who) for who in ("1234567890", "abcdefghij")] == ["bob-12345678", "bob"]
    assert scope.renamed() == [(NameClaim(4, "abcdefghij", "bob"), NameClaim(5, "1234567890", "bob"), "bob-12345678")]


def test_name_comes_back_to_whom_it_was_given():
    scope, _ = told([("1234567890", "bob", 5), ("abcdefghij", "bob", 4)])
    scope.settle()
    scope.release("abcdefghij")
    assert scope.settle() == {"1234567890"}
    assert scope.name("1234567890") == "bob"
    assert scope.renamed() == []


def test_longer_if_that_is_taken():
    scope, _ = told([("1234567890", "bob", 5), ("abcdefghij", "bob", 4), ("x", "bob-12345678", 9)])
    scope.settle()
    assert scope.name("1234567890") == "bob-123456789"


def test_no_longer_than_the_column():
    scope, _ = told([("1234567890", "b" * LENGTH, 5), ("abcdefghij", "b" * LENGTH, 4)])
    scope.settle()
    assert scope.name("1234567890") == "b" * (LENGTH - 9) + "-12345678"


@given(EVENTS, st.randoms(use_true_random=False), st.data())
def test_same_names_in_whatever_order(events, random, data):
    scope, claims = told(events)
    scope.settle()
    other = NameScope(LENGTH)
    noise = data.draw(EVENTS)
    for who, name, created in noise:
        if name is not None:
            other.claim(NameClaim(created, who, name))
        if data.draw(st.booleans()):
            other.settle()
    for who in {who for who, _, _ in noise} - set(claims):
        other.release(who)
    last = list(claims.values())
    random.shuffle(last)
    for claim in last:
        other.claim(claim)
    other.settle()
    names = {who: scope.name(who) for who in claims}
    assert names == {who: other.name(who) for who in claims}
    assert len(set(names.values())) == len(names)
    assert all(len(name) <= LENGTH for name in names.values())
    wanted = defaultdict(list)
    for claim in claims.values():
        wanted[claim.name].append(claim)
    for name, rivals in wanted.items():
        assert names[min(rivals).id] == name


@given(EVENTS, EVENTS)
def test_settling_tells_whose_name_is_another(first, second):
    scope, before = told(first)
    scope.settle()
    names = {who: scope.name(who) for who in before}
    moved = set()
    for who, name, created in second:
        if name is None:
            scope.release(who)
            before.pop(who, None)
        else:
            scope.claim(NameClaim(created, who, name))
            before[who] = None
        moved.add(who)
    told_of = scope.settle() | moved
    assert {who for who in before if names.get(who) != scope.name(who)} <= told_of
