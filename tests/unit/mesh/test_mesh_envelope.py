import itertools
import os

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from atoll.mesh.certificates import authority
from atoll.mesh.envelope import Channel, Envelopes, Rejected, carried, short
from atoll.mesh.signing import Signer, fingerprint


class World:
    """Sites that know one another's certificates."""

    def __init__(self, directory) -> None:
        made = authority(directory / "ca", "unit")
        self.pems, self.keys = {}, {}
        for index, name in enumerate(("paris", "lyon", "nice")):
            made.certify(directory / name, name, f"127.0.0.{index + 1}")
            self.pems[name] = (directory / name / "cert.pem").read_text()
            self.keys[name] = (directory / name / "key.pem").read_bytes()
        self.members = set(self.pems)

    def member(self, sender):
        for name in self.members:
            if short(fingerprint(self.pems[name])) == sender:
                return name, x509.load_pem_x509_certificate(self.pems[name].encode())
        return None

    def site(self, name, key=None, cloud="unit") -> Envelopes:
        signer = Signer(self.keys[key or name])

        def fingerprint_of(other):
            return fingerprint(self.pems[other]) if other in self.members else None

        return Envelopes(cloud, fingerprint(self.pems[name]), signer, self.member, fingerprint_of, os.urandom)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("envelope"))


@pytest.fixture(autouse=True)
def everybody_is_a_member(world):
    world.members = set(world.pems)


def greet(one: Envelopes, other: Envelopes, name: str) -> None:
    """Give `one` the challenge for its messages to `other`, called `name`."""
    welcome, _ = other.welcome(other.open(one.hello(name)))
    one.open(welcome)


def refused(envelopes: Envelopes, data: bytes) -> str:
    with pytest.raises(Rejected) as caught:
        envelopes.open(data)
    return caught.value.reason


def test_sealed_message_is_opened(world):
    paris, lyon = world.site("paris"), world.site("lyon")
    assert paris.seal("lyon", Channel.PROBE, b"x") is None
    assert not paris.ready("lyon")
    greet(paris, lyon, "lyon")
    assert paris.ready("lyon")
    opened = lyon.open(paris.seal("lyon", Channel.PROBE, b"hello"))
    assert (opened.sender, opened.channel, opened.payload) == ("paris", Channel.PROBE, b"hello")


def test_a_small_message_costs_less_than_90_bytes(world):
    paris, lyon = world.site("paris"), world.site("lyon")
    greet(paris, lyon, "lyon")
    assert len(paris.seal("lyon", Channel.PROBE, b"")) < 90


def test_a_hello_carries_something(world):
    paris, lyon = world.site("paris"), world.site("lyon")
    hello = paris.hello("lyon", b"vouchers")
    assert carried(hello) == b"vouchers"
    assert lyon.welcome(lyon.open(hello))[1] == b"vouchers"


def test_replayed(world):
    paris, lyon = world.site("paris"), world.site("lyon")
    greet(paris, lyon, "lyon")
    messages = [paris.seal("lyon", Channel.SYNC, bytes([number])) for number in range(3)]
    for message in messages:
        lyon.open(message)
    assert [refused(lyon, message) for message in messages] == ["replayed"] * 3


def test_overtaken_message_is_new(world):
    paris, lyon = world.site("paris"), world.site("lyon")
    greet(paris, lyon, "lyon")
    messages = [paris.seal("lyon", Channel.SYNC, bytes([number])) for number in range(5)]
    for number in (4, 1, 3, 0, 2):
        assert lyon.open(messages[number]).payload == bytes([number])
        assert refused(lyon, messages[number]) == "replayed"


def test_too_far_behind(world):
    paris, lyon = world.site("paris"), world.site("lyon")
    greet(paris, lyon, "lyon")
    first = paris.seal("lyon", Channel.SYNC, b"")
    for _ in range(1100):
        last = paris.seal("lyon", Channel.SYNC, b"")
    lyon.open(last)
    assert refused(lyon, first) == "replayed"


def test_replayed_to_a_site_that_was_started_anew(world):
    paris, lyon = world.site("paris"), world.site("lyon")
    greet(paris, lyon, "lyon")
    message = paris.seal("lyon", Channel.SYNC, b"")
    assert refused(world.site("lyon"), message) == "unexpected"


def test_replayed_after_the_sender_was_started_anew(world):
    paris, lyon = world.site("paris"), world.site("lyon")
    greet(paris, lyon, "lyon")
    old, late = paris.seal("lyon", Channel.SYNC, b"old"), paris.seal("lyon", Channel.SYNC, b"late")
    lyon.open(old)
    for _ in range(2):
        again = world.site("paris")
        greet(again, lyon, "lyon")
        lyon.open(again.seal("lyon", Channel.SYNC, b""))
        assert refused(lyon, old) in {"replayed", "forged"}
        if late:
            assert lyon.open(late).payload == b"late"
            late = b""
    assert refused(lyon, old) == "forged"


def test_sent_on_to_another_site(world):
    paris, lyon, nice = world.site("paris"), world.site("lyon"), world.site("nice")
    greet(paris, lyon, "lyon")
    greet(paris, nice, "nice")
    message = paris.seal("lyon", Channel.SYNC, b"")
    nice.open(paris.seal("nice", Channel.SYNC, b""))
    assert refused(nice, message) == "forged"


def test_in_the_name_of_another_site(world):
    impostor, lyon = world.site("paris", key="nice"), world.site("lyon")
    assert refused(lyon, impostor.hello("lyon")) == "forged"
    paris = world.site("paris")
    greet(paris, lyon, "lyon")
    lyon.open(paris.seal("lyon", Channel.SYNC, b""))
    message = bytearray(paris.seal("lyon", Channel.SYNC, b"pay paris"))
    message[-5:] = b"nice!"
    assert refused(lyon, bytes(message)) == "forged"


def test_a_welcome_that_answers_nothing(world):
    paris, lyon = world.site("paris"), world.site("lyon")
    hello = paris.hello("lyon")
    welcome, _ = lyon.welcome(lyon.open(hello))
    paris.open(welcome)
    assert refused(paris, welcome) == "late"
    paris.hello("lyon")
    assert refused(paris, welcome) == "forged"


def test_two_hellos_that_cross_their_answers(world):
    paris, lyon = world.site("paris"), world.site("lyon")
    hellos = [paris.hello("lyon"), paris.hello("lyon")]
    welcomes = [lyon.welcome(lyon.open(hello))[0] for hello in hellos]
    paris.open(welcomes[0])
    assert refused(paris, welcomes[1]) == "late"
    assert lyon.open(paris.seal("lyon", Channel.PROBE, b"x")).payload == b"x"


def test_a_repeated_hello_does_not_shut_its_sender_out(world):
    paris, lyon = world.site("paris"), world.site("lyon")
    hello = paris.hello("lyon")
    paris.open(lyon.welcome(lyon.open(hello))[0])
    lyon.open(paris.seal("lyon", Channel.PROBE, b"1"))
    lyon.welcome(lyon.open(hello))
    assert lyon.open(paris.seal("lyon", Channel.PROBE, b"2")).payload == b"2"


def test_of_no_member(world):
    paris, lyon = world.site("paris"), world.site("lyon")
    greet(paris, lyon, "lyon")
    messages = [paris.seal("lyon", Channel.SYNC, b""), paris.hello("lyon")]
    world.members = {"lyon"}
    assert [refused(lyon, message) for message in messages] == ["stranger", "stranger"]


def test_to_no_member(world):
    world.members = {"paris"}
    with pytest.raises(KeyError):
        world.site("paris").hello("lyon")


def test_of_another_cloud(world):
    assert refused(world.site("lyon"), world.site("paris", cloud="other").hello("lyon")) == "forged"


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(world, data):
    assert refused(world.site("lyon"), data) in {"malformed", "stranger"}


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 7))
def test_no_changed_bit_passes(world, at, bit):
    paris, lyon = world.site("paris"), world.site("lyon")
    greet(paris, lyon, "lyon")
    message = bytearray(paris.seal("lyon", Channel.SYNC, b"payload"))
    message[int(at * len(message))] ^= 1 << bit
    with pytest.raises(Rejected):
        lyon.open(bytes(message))


@given(st.permutations(list(range(6))), st.lists(st.integers(0, 5)))
def test_each_message_is_opened_once_in_whatever_order(world, order, repeats):
    paris, lyon = world.site("paris"), world.site("lyon")
    greet(paris, lyon, "lyon")
    messages = [paris.seal("lyon", Channel.SYNC, bytes([number])) for number in range(6)]
    opened = []
    for number in itertools.chain(order, repeats):
        try:
            opened.append(lyon.open(messages[number]).payload[0])
        except Rejected:
            continue
    assert opened == list(order)
