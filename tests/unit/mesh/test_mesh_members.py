import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.mesh.certificates import authority
from atoll.mesh.members import Admission, Card, Roster, read_cards
from atoll.mesh.membership import rules
from atoll.mesh.refusals import Refused
from atoll.mesh.signing import Signer

NAMES = ("paris", "lyon", "nice", "rome", "oslo")
PORTS = {"public_port": 8080, "peer_port": 8443, "mesh_port": 7448}


class World:
    def __init__(self, directory) -> None:
        made = authority(directory / "ca", "unit")
        self.authority = made.certificate
        self.cards, self.signers = {}, {}
        for index, name in enumerate(NAMES):
            made.certify(directory / name, name, f"127.0.0.{index + 1}")
            self.cards[name] = Card(name, f"127.0.0.{index + 1}", **PORTS, certificate=(directory / name / "cert.pem").read_text())
            self.signers[name] = Signer((directory / name / "key.pem").read_bytes())
        authority(directory / "foreign", "unit").certify(directory / "impostor", "nice", "127.0.0.3")
        self.impostor = Card("nice", "127.0.0.3", **PORTS, certificate=(directory / "impostor" / "cert.pem").read_text())

    def admission(self, name: str, by: str, stamp: int, signer: str = "") -> Admission:
        return Admission.make("unit", self.cards[name], by, stamp, self.signers[signer or by])

    def roster(self, **fields) -> Roster:
        listed = {name: self.cards[name] for name in ("paris", "lyon")}
        return Roster("unit", self.cards["paris"], self.authority, **{"listed": listed, **fields})


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("members"))


def members(roster) -> set[str]:
    return {name for name in roster.cards() if roster.is_member(name)}


def test_a_card_comes_back_from_json(world):
    card = world.cards["nice"]
    assert Card.parse(json.loads(json.dumps(card.dump())), world.authority) == card


@pytest.mark.parametrize(
    "change",
    [
        {"name": "lyon"}, {"name": "../nice"}, {"name": ""}, {"host": "nice.example"}, {"host": "127.1"}, {"host": 1}, {"mesh_port": 0},
        {"mesh_port": True}, {"peer_port": "8443"}, {"public_port": 65536}, {"certificate": "no certificate"}, {"certificate": "x" * 9000},
        {"token_key": "no key"}, {"more": 1}, {"host": "fe80::1%eth0"}, {"host": "fe80::1%\r\nX-Other: 1"}, {"host": "fe80::1%\x1b[2J"},
    ],
)  # fmt: skip
def test_a_card_that_is_none(world, change):
    with pytest.raises(ValueError, match=r"\w"):
        Card.parse({**world.cards["nice"].dump(), **change}, world.authority)


def test_a_card_of_a_foreign_authority(world):
    with pytest.raises(ValueError, match="not of this cloud's authority"):
        Card.parse(world.impostor.dump(), world.authority)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5))
def test_arbitrary_json_is_not_a_card(world, data):
    with pytest.raises(ValueError, match=r"\w"):
        Card.parse(data, world.authority)
    with pytest.raises(ValueError, match=r"\w"):
        Admission.parse(data, world.authority)


def test_a_file_in_which_one_card_is_wrong(world):
    wrong = []
    text = json.dumps([world.cards["paris"].dump(), world.impostor.dump(), 1, world.cards["lyon"].dump()])
    assert set(read_cards(text, world.authority, wrong.append)) == {"paris", "lyon"}
    assert len(wrong) == 2
    assert read_cards("{", world.authority, wrong.append) == {}


def test_listed_site_is_a_member(world):
    roster = world.roster()
    assert members(roster) == {"paris", "lyon"}
    assert roster.by_fingerprint(world.cards["lyon"].fingerprint.upper()) == "lyon"
    assert roster.by_short(bytes.fromhex(world.cards["lyon"].fingerprint[:16]))[0] == "lyon"
    assert roster.by_fingerprint(world.cards["nice"].fingerprint) is None


def test_a_chain_of_admissions(world):
    roster = world.roster()
    chain = [world.admission("oslo", "rome", 3), world.admission("rome", "nice", 2), world.admission("nice", "lyon", 1)]
    assert not roster.admit(chain[:2])
    assert roster.admit(chain[2:])
    assert members(roster) == set(NAMES)
    assert roster.chain("oslo") == chain
    assert roster.chain("paris") == []


@pytest.mark.parametrize("signer", ["rome", "nice"])
def test_an_admission_that_its_member_did_not_sign(world, signer):
    roster = world.roster()
    assert not roster.admit([world.admission("nice", "lyon", 1, signer=signer)])
    assert members(roster) == {"paris", "lyon"}


def test_an_admission_to_another_cloud(world):
    roster = world.roster()
    assert not roster.admit([Admission.make("other", world.cards["nice"], "lyon", 1, world.signers["lyon"])])


def test_nobody_admits_himself(world):
    assert not world.roster().admit([world.admission("nice", "nice", 1)])
    assert not world.roster().admit([world.admission("nice", "rome", 1), world.admission("rome", "nice", 1)])


def test_revoked_site_is_not_a_member_and_admits_nobody(world):
    roster = world.roster(revoked={"lyon": 10})
    roster.admit([world.admission("nice", "lyon", 9), world.admission("rome", "lyon", 11)])
    assert members(roster) == {"paris", "nice"}
    assert roster.by_fingerprint(world.cards["lyon"].fingerprint) is None
    assert roster.fingerprint("lyon") is None
    assert roster.certificate("lyon") is not None  # its old entries remain its own


def test_site_that_left_is_not_let_in(world):
    roster = world.roster(left=frozenset({"lyon"}))
    assert roster.by_fingerprint(world.cards["lyon"].fingerprint) is None


@given(st.permutations(range(5)), st.lists(st.integers(0, 4)), st.integers(0, 6))
def test_the_order_of_admissions_does_not_matter(world, order, repeats, at):
    pairs = [("nice", "lyon"), ("rome", "nice"), ("oslo", "rome"), ("nice", "paris"), ("oslo", "paris")]
    admissions = [world.admission(name, by, stamp) for stamp, (name, by) in enumerate(pairs)]
    one, other = world.roster(revoked={"nice": at}), world.roster()
    one.admit(admissions)
    for index in [*order, *repeats]:
        other.admit([admissions[index]])
    other.revoked = {"nice": at}
    other.conclude()
    assert members(one) == members(other)


def test_own_statement_is_newer_than_the_admission(world):
    moved = Card(**{**world.cards["lyon"].dump(), "mesh_port": 9000, "token_key": "K"})
    roster = world.roster(listed_at=5, stated={"lyon": (6, moved)})
    assert roster.cards()["lyon"] == moved
    roster = world.roster(listed_at=7, stated={"lyon": (6, moved)})
    assert roster.cards()["lyon"].mesh_port == 7448
    assert roster.cards()["lyon"].token_key == "K"


def test_statement_with_another_certificate_is_ignored(world):
    other = Card(**{**world.cards["nice"].dump(), "name": "lyon"})
    assert world.roster(stated={"lyon": (6, other)}).cards()["lyon"] == world.cards["lyon"]


def test_rules(world):
    check = rules(world.authority)
    nice = world.cards["nice"]
    admission = world.admission("nice", "lyon", 1).dump()
    check["member"]("nice", "nice", {"present": True, "card": nice.dump(), "left": False, "created": 1})
    check["admission"]("lyon", nice.fingerprint, {"present": True, "admission": admission})
    check["revocation"]("lyon", "nice", {"present": True, "stamp": 1})
    for kind, author, key, fields in [
        ("member", "lyon", "nice", {"present": True, "left": True}),
        ("member", "lyon", "lyon", {"card": nice.dump()}),
        ("member", "nice", "nice", {"card": world.impostor.dump()}),
        ("member", "nice", "nice", {"left": "yes"}),
        ("member", "nice", "nice", {"more": 1}),
        ("admission", "lyon", world.cards["rome"].fingerprint, {"present": True, "admission": admission}),
        ("admission", "lyon", nice.fingerprint, {"present": False, "admission": admission}),
        ("admission", "lyon", nice.fingerprint, {"present": True}),
        ("admission", "lyon", nice.fingerprint, {"present": True, "admission": {**admission, "stamp": "1"}}),
        ("revocation", "lyon", "nice", {"present": False, "stamp": 1}),
        ("revocation", "lyon", "nice", {"stamp": 1}),
        ("revocation", "lyon", "nice", {"present": True, "stamp": -1}),
        ("revocation", "lyon", "nice", {"present": True, "stamp": True}),
        ("revocation", "lyon", "nice", {"present": True}),
    ]:
        with pytest.raises(Refused):
            check[kind](author, key, fields)
