"""Hypothesis strategies for scopes."""

from itertools import count

from hypothesis import strategies as st

from atoll.gateway.scope.model import SERVICES, Alternatives, Around, Cross, Replicated, Scope, Site, sites

NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)


@st.composite
def expressions(draw):
    """Return expressions whose sites have different names, and in which no operation contains one of its own kind."""
    base = draw(NAMES)
    names = (f"{base}{number}" for number in count())

    def build(depth: int, kinds: tuple[type, ...]):
        kind = draw(st.sampled_from((Site, *kinds))) if depth else Site
        if kind is Site:
            return Site(next(names))
        others = tuple({Cross, Replicated, Alternatives} - {kind})
        ordered = tuple(each for each in (Cross, Replicated, Alternatives) if each in others)
        return kind(tuple(build(depth - 1, ordered) for _ in range(draw(st.integers(2, 3 if depth == 2 else 2)))))

    return build(2, (Cross, Replicated, Alternatives))


@st.composite
def scopes(draw):
    said = draw(st.dictionaries(st.sampled_from(SERVICES), expressions()))
    around = draw(st.none() | st.builds(Around, st.builds(Site, NAMES), st.floats(0, 1e6)))
    spanning = [site for value in said.values() if isinstance(value, Cross) for site in sites(value)]
    prime = draw(st.sampled_from(spanning)) if spanning and draw(st.booleans()) else None
    return Scope(tuple(said.items()), prime, around)
