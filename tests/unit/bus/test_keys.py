"""Key expressions: they keep any text of a target, and no target's key matches another's."""

import pytest
import zenoh
from hypothesis import given
from hypothesis import strategies as st

from atoll.bus.frames import Instance
from atoll.bus.keys import Inbox, Keys, read_listener

TEXT = st.text(max_size=40)
KINDS = st.sampled_from(["rpc", "notify"])
INSTANCES = st.builds(Instance, st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
AWKWARD = ["", "a/b", "*", "**", "$*", "#", "?", "@", "%00", "%2F", "a b", "\0", "é", "…", ".", "..", "/", "//", "\n"]


@given(TEXT, KINDS, TEXT, TEXT, TEXT, INSTANCES)
def test_server_and_instance_survive_any_text(vhost, kind, exchange, topic, name, instance):
    key = Keys(vhost).listener(kind, exchange, topic, name, instance)
    assert str(zenoh.KeyExpr(key)) == key, "Zenoh accepts canonical key expressions only"
    assert read_listener(key) == (name, instance)
    assert zenoh.KeyExpr(Keys(vhost).listeners(kind, exchange, topic)).includes(zenoh.KeyExpr(key))


REALMS = st.integers(1, 2**24 - 1)
NODES = st.integers(0, 2**64 - 1)
OWN_NODES = st.integers(0, 2**40 - 1)


@given(TEXT, OWN_NODES, REALMS, st.none() | st.tuples(KINDS, TEXT, TEXT))
def test_realm_and_topic_survive_any_text(vhost, node, source, topic):
    keys = Keys(vhost)
    key = keys.node(node, source, topic)
    assert str(zenoh.KeyExpr(key)) == key
    assert Inbox(keys, node).read(key) == (source, topic)
    for pattern in (keys.from_clients(node), keys.from_realm(source, topic)):
        assert zenoh.KeyExpr(pattern).includes(zenoh.KeyExpr(key))


@given(TEXT, NODES, st.none() | st.tuples(KINDS, TEXT, TEXT))
def test_frames_of_the_machines_own_processes_have_keys_of_their_own(vhost, node, topic):
    keys = Keys(vhost)
    key = zenoh.KeyExpr(keys.node(node, 0, topic))
    assert zenoh.KeyExpr(keys.nodes_of(node >> 40)).includes(key)
    assert not zenoh.KeyExpr(keys.from_clients(node)).intersects(key)


@given(REALMS, REALMS, NODES, st.sampled_from([None, ("rpc", "e", "t")]), st.sampled_from([None, ("rpc", "e", "other")]))
def test_realm_covers_no_other(source, other, node, topic, other_topic):
    """Patterns that a router allows one client match no key of another client."""
    keys = Keys("v")
    key, own = zenoh.KeyExpr(keys.node(node, source, topic)), zenoh.KeyExpr(keys.node(node, 0, topic))
    assert zenoh.KeyExpr(keys.from_realm(other, topic)).intersects(key) == (source == other and node < 2**40)
    assert zenoh.KeyExpr(keys.nodes_of(other)).intersects(own) == (node >> 40 == other)
    assert not zenoh.KeyExpr(keys.from_realm(other, topic)).intersects(own)
    assert not zenoh.KeyExpr(keys.nodes_of(other)).intersects(key)
    same = topic is None and other_topic is None and node < 2**40
    assert zenoh.KeyExpr(keys.from_realm(source, other_topic)).intersects(key) == same
    token = zenoh.KeyExpr(keys.listener("rpc", "e", "t", "name", Instance(node, 1)))
    assert zenoh.KeyExpr(keys.listeners_of("rpc", "e", "t", "name", other)).intersects(token) == (node >> 40 == other)
    assert not zenoh.KeyExpr(keys.listeners_of("rpc", "e", "t", "nam", node >> 40)).intersects(token)


def test_inbox_remembers_no_more_topics_than_it_may():
    keys = Keys("")
    inbox = Inbox(keys, 1)
    for number in range(3000):
        inbox.read(keys.node(1, 7, ("rpc", "e", str(number))))
    assert len(inbox._topics) <= 1000


@given(TEXT, TEXT, TEXT, TEXT)
def test_targets_have_keys_of_their_own(exchange, topic, other_exchange, other_topic):
    keys = Keys("x")
    here, there = keys.fanout(exchange, topic), keys.fanout(other_exchange, other_topic)
    zenoh.KeyExpr(here)
    assert zenoh.KeyExpr(here).intersects(zenoh.KeyExpr(there)) == ((exchange, topic) == (other_exchange, other_topic))


@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_text_survives(text):
    instance = Instance(7, 8)
    assert read_listener(Keys(text).listener("rpc", text, text, text, instance)) == (text, instance)


@pytest.mark.parametrize("one", AWKWARD)
def test_virtual_hosts_see_nothing_of_each_other(one):
    for other in AWKWARD:
        for mine, theirs in (
            (Keys(one).node(1, 0), Keys(other).node(1)),
            (Keys(one).node(1, 7), Keys(other).from_clients(1)),
            (Keys(one).listeners("rpc", "e", "t"), Keys(other).listeners("rpc", "e", "t")),
            (Keys(one).fanout("e", "t"), Keys(other).fanout("e", "t")),
        ):
            assert zenoh.KeyExpr(mine).intersects(zenoh.KeyExpr(theirs)) == (one == other), (one, other)


def test_rpc_and_notifications_are_apart():
    keys = Keys("")
    assert not zenoh.KeyExpr(keys.listeners("rpc", "e", "t")).intersects(zenoh.KeyExpr(keys.listeners("notify", "e", "t")))


@pytest.mark.parametrize(
    "key",
    [
        "",
        "oslo",
        "oslo/x/rpc/e/t/name/xyz/1",
        "oslo/x/rpc/e/t/name/00000000000000ff/x",
        "oslo/x/rpc/e/t/name/-000000000000001/1",
        "oslo/x/rpc/e/t/name/00000000000000ff/-1",
        "oslo/x/rpc/e/t/name/00000000000000ff/4294967296",
        "oslo/x/rpc/e/t/name/100000000000000ff/1",
        "oslo/x/rpc/e/t/name/ff/1",
        "oslo/x/rpc/e/t/name/0x000000000000ff/1",
        "oslo/x/rpc/e/t/name/0000_0000_00000f/1",
        "oslo/x/rpc/e/t/name/00000000000000ff/1_0",
        "oslo/x/rpc/e/t/name/00000000000000ff/ 1",
        "oslo/x/rpc/e/t/name/00000000000000ff/\u0661",
    ],
)
def test_key_that_is_not_a_presence_token_is_an_error(key):
    """An instance out of range could not be encoded in a frame: it would raise in the sender's thread."""
    with pytest.raises(ValueError):  # noqa: PT011 - logged with the key
        read_listener(key)
