from hypothesis import given
from hypothesis import strategies as st

from atoll.mesh.opinion_digest import OpinionDigest
from atoll.mesh.swim_messages import News, PeerState

opinions = st.dictionaries(st.text("ab-1", min_size=1, max_size=4), st.tuples(st.sampled_from(PeerState), st.integers(0, 9)), max_size=8)


def digest_of(found) -> OpinionDigest:
    digest = OpinionDigest()
    for name, (state, incarnation) in found.items():
        digest.put(News(name, state, incarnation))
    return digest


@given(opinions, opinions, st.randoms())
def test_the_digest_depends_on_the_last_opinions_alone(found, former, random):
    names = list(found)
    random.shuffle(names)
    digest = digest_of(former)
    for name in names:
        digest.put(News(name, *found[name]))
    for name in former.keys() - found.keys():
        digest.drop(name)
    assert digest.value == digest_of(found).value


@given(opinions, opinions)
def test_different_opinions_have_different_digests(one, other):
    assert (digest_of(one).value == digest_of(other).value) == (one == other)
