"""Any scope, for tests."""

from itertools import count

from hypothesis import strategies as st

from atoll.gateway.scope.model import SERVICES, Alternatives, Around, Cross, Replicas, Scope, Site, sites

NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)


@st.composite
def expressions(draw):
    """Any expression: every site in it has a name of its own, and no operation has one of its own kind as a part."""
    base = draw(NAMES)
    names = (f"{base}{number}" for number in count())

    def build(depth: int, kinds: tuple[type, ...]):
        kind = draw(st.sampled_from((Site, *kinds))) if depth else Site
        if kind is Site:
            return Site(next(names))
        others = tuple({Cross, Replicas, Alternatives} - {kind})
        ordered = tuple(each for each in (Cross, Replicas, Alternatives) if each in others)
        return kind(tuple(build(depth - 1, ordered) for _ in range(draw(st.integers(2, 3 if depth == 2 else 2)))))

    return build(2, (Cross, Replicas, Alternatives))


@st.composite
def scopes(draw):
    said = draw(st.dictionaries(st.sampled_from(SERVICES), expressions()))
    around = draw(st.none() | st.builds(Around, st.builds(Site, NAMES), st.floats(0, 1e6)))
    spanning = [site for value in said.values() if isinstance(value, Cross) for site in sites(value)]
    prime = draw(st.sampled_from(spanning)) if spanning and draw(st.booleans()) else None
    return Scope(tuple(said.items()), prime, around)
