"""Nodes with real Zenoh sessions over TLS on loopback."""

import asyncio
import contextlib
import json
import os
import shutil
import time

import pytest
import zenoh

from atoll.bus.zenoh_config import Tls, session_config
from atoll.errors import AtollError
from atoll.mesh import graves
from atoll.mesh import node as node_module
from atoll.mesh.admission import Token, join
from atoll.mesh.agreed_time import Reader
from atoll.mesh.certificates import authority
from atoll.mesh.envelope import Channel, Envelopes
from atoll.mesh.node import Mesh
from atoll.mesh.probes import Probe
from atoll.mesh.record import Change, Refused
from atoll.mesh.signing import Signer
from atoll.mesh.swim import Ping
from atoll.mesh.vivaldi import Coordinate

NOTE = [Change("note", "1", {"present": True, "text": "hello"})]


async def until(condition, seconds: float = 10) -> float:
    """Wait for something; returns how long it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "it did not come to be"
        await asyncio.sleep(0.01)
    return time.monotonic() - start


@contextlib.asynccontextmanager
async def running(sites, *names: str, **fields):
    nodes = [Mesh(sites.options(name, **fields)) for name in names]
    try:
        for node in nodes:
            await node.start()
        yield nodes
    finally:
        await asyncio.gather(*(node.stop() for node in nodes))


def all_reach(nodes) -> bool:
    return all(set(node.reachable()) >= {other.site for other in nodes} - {node.site} for node in nodes)


def all_equal(nodes) -> bool:
    return len({node.document.digest() for node in nodes}) == 1


def states(node) -> dict[str, str]:
    return {name: str(member.state) for name, member in node.members().items()}


class Raw:
    """Somebody with a Zenoh session of his own, and perhaps a certificate, who sends to a site."""

    def __init__(self, sites, receiver: str, certificate=None, key: str = "") -> None:
        options = sites.options(receiver)
        tls = Tls(str(options.tls / "ca.pem"), *(str(certificate / name) for name in ("cert.pem", "key.pem")) if certificate else ())
        config = session_config(mode="client", listen=[], connect=[f"tls/{options.host}:{options.mesh_port}"], tls=tls)
        config.insert_json5("connect/timeout_ms", "700")
        self.session = zenoh.open(config)
        self.key = key or f"atoll/mesh/{receiver}"

    def send(self, data: bytes) -> None:
        self.session.put(self.key, data)

    def close(self) -> None:
        self.session.close()


def envelopes_of(sites, name: str, node: Mesh) -> Envelopes:
    """What a site that does as it likes seals with; it knows the members that `node` knows."""
    options, roster = sites.options(name), node._roster
    signer = Signer((options.tls / "key.pem").read_bytes())
    return Envelopes("unit", options.card().fingerprint, signer, roster.by_short, roster.fingerprint, os.urandom)


def test_sites_find_each_other_and_agree(sites):
    async def main():
        sites.introduce("paris", "lyon", "nice")
        async with running(sites, "paris", "lyon", "nice") as nodes:
            await until(lambda: all_reach(nodes) and all_equal(nodes))
            paris, lyon, _ = nodes
            assert states(paris) == {"lyon": "alive", "nice": "alive", "paris": "alive"}
            assert 0 < paris.rtt_ms("lyon") < 500
            assert paris.rtt_ms("lyon", "nice") > 0
            assert paris.rtt_ms("paris") == 0
            assert paris.rtt_ms("rome") is None
            lyon.document.write(NOTE)
            assert await until(lambda: all(node.document.record("note", "1") for node in nodes)) < 1
            await until(lambda: all_equal(nodes))
            for node in nodes:
                assert node.status()["refused"] == {}
                assert node.site_of_fingerprint(lyon.members()["lyon"].fingerprint) == "lyon"

    asyncio.run(main())


def test_a_large_document_is_brought_to_who_was_away(sites):
    async def main():
        sites.introduce("paris", "lyon")
        async with running(sites, "paris") as (paris,):
            paris.document.write(Change("note", str(number), {"present": True, "text": "x" * 1000}) for number in range(2000))
            async with running(sites, "lyon") as (lyon,):
                assert await until(lambda: all_equal([paris, lyon])) < 5
                assert len(list(lyon.document.records("note"))) == 2000

    asyncio.run(main())


def test_a_tombstone_ends_when_every_member_has_had_it(sites, monkeypatch):
    for name, value in {"END_AFTER_MS": -60_000, "MIN_WASTE": 0, "is_worth_while": lambda waste, _weight: waste > 0}.items():
        monkeypatch.setattr(graves, name, value)
    monkeypatch.setattr(node_module, "_TIDY_S", 0.2)

    async def main():
        sites.introduce("paris", "lyon", "nice")
        async with running(sites, "paris", "lyon") as nodes:
            await until(lambda: all_reach(nodes))
            nodes[0].document.write(NOTE)
            nodes[0].document.write([Change("note", "1", {"present": False})])
            await until(lambda: all_equal(nodes))
            await asyncio.sleep(2)
            assert nodes[0].document.record("note", "1"), "nice has not had it"
            async with running(sites, "nice") as more:
                await until(lambda: nodes[0].document.record("note", "1") is None, 20)
                await until(lambda: all_equal([*nodes, *more]))
                assert more[0].document.record("note", "1") is None

    asyncio.run(main())


def test_a_site_that_stops_is_missed_and_one_that_starts_is_found(sites):
    async def main():
        sites.introduce("paris", "lyon", "nice")
        async with running(sites, "paris", "lyon") as nodes:
            paris, lyon = nodes
            told = []
            paris.on_members(told.append)
            async with running(sites, "nice") as (nice,):
                first_s = await until(lambda: all_reach([*nodes, nice]), 60)
            assert any("nice" in names for names in told)  # perhaps with lyon, if that was slow to answer at the same time
            await until(lambda: paris.reachable() == ["lyon"] and lyon.reachable() == ["paris"], 30)
            await until(lambda: states(paris)["nice"] == states(lyon)["nice"] == "unreachable", 30)
            paris.document.write(NOTE)
            async with running(sites, "nice") as (nice,):
                again_s = await until(lambda: all_reach([*nodes, nice]) and all_equal([*nodes, nice]), 60)
                assert again_s < 5 + 5 * first_s, "it takes no longer because it was away; a busy machine needs its time for either"

    asyncio.run(main())


def test_a_failed_request_has_the_site_asked_at_once(sites):
    async def main():
        sites.introduce("paris", "lyon")
        async with running(sites, "paris", "lyon") as nodes:
            paris, _ = nodes
            await until(lambda: all_reach(nodes))
            paris.report("lyon", False)
            assert states(paris)["lyon"] == "suspect"
            assert paris.reachable() == []
            assert await until(lambda: paris.reachable() == ["lyon"]) < 0.5
            paris.report("rome", False)

    asyncio.run(main())


def test_join_by_one_member_is_known_to_all(sites, tmp_path):
    async def main():
        sites.introduce("paris", "lyon")
        options = sites.options("nice")
        async with running(sites, "paris", "lyon") as nodes:
            paris, lyon = nodes
            await until(lambda: all_reach(nodes))
            token = Token.parse(paris.invite("nice"))
            ports = {"public_port": 1, "peer_port": 2, "mesh_port": options.mesh_port}
            joined = join(token, options.host, ports, "", lambda _host, _port, body: paris.redeem(body))
            (options.tls / "key.pem").write_text(joined.key)
            (options.tls / "cert.pem").write_text(joined.certificate)
            # It was told of one site alone.
            card = paris.members()["paris"].card
            options.members_file.write_text(f"[{json.dumps(card.dump())}]")
            await until(lambda: "nice" in lyon.members())
            nice = Mesh(options)
            await nice.start()
            try:
                await until(lambda: all_reach([*nodes, nice]) and all_equal([*nodes, nice]))
                assert set(states(nice).values()) == {"alive"}
            finally:
                await nice.stop()

    asyncio.run(main())


def test_a_newcomer_vouches_for_itself(sites):
    """Who admitted it went away before the others heard of it."""

    async def main():
        sites.introduce("paris", "lyon")
        options = sites.options("nice")
        nice = Mesh(options)
        async with running(sites, "paris") as (paris,):
            paris._membership.admit(options.card())
            options.members_file.write_text(sites.options("paris").members_file.read_text())
            await nice.start()
            await until(lambda: all_equal([paris, nice]))
        async with running(sites, "lyon") as (lyon,):
            assert "nice" not in lyon.members()
            await until(lambda: all_reach([lyon, nice]) and all_equal([lyon, nice]))
        await nice.stop()

    asyncio.run(main())


def test_an_author_that_is_not_known_is_asked_for(sites):
    """Lyon and nice each know paris alone, which knows both from its file and has admitted neither."""

    async def main():
        sites.introduce("paris", "lyon", "nice")
        sites.introduce("paris", "lyon")
        three = [sites.options(name).card().dump() for name in ("paris", "lyon", "nice")]
        sites.options("paris").members_file.write_text(json.dumps(three))
        async with running(sites, "paris", "nice") as nodes:
            await until(lambda: all_equal(nodes))
            async with running(sites, "lyon") as (lyon,):
                await until(lambda: all_reach([*nodes, lyon]) and all_equal([*nodes, lyon]))

    asyncio.run(main())


def test_a_site_that_is_added_to_the_file_is_found(sites):
    async def main():
        sites.introduce("paris")
        async with running(sites, "paris") as (paris,):
            sites.introduce("paris", "lyon")
            async with running(sites, "lyon") as (lyon,):
                await until(lambda: all_reach([paris, lyon]))

    asyncio.run(main())


def test_a_site_that_was_lost_and_made_anew_has_its_name_and_its_words_back(sites):
    async def main():
        sites.introduce("paris", "lyon", "nice")
        async with running(sites, "paris", "lyon", "nice") as nodes:
            nodes[1].document.write(NOTE)
            await until(lambda: all_reach(nodes) and all_equal(nodes))
        async with running(sites, "paris", "nice") as nodes:
            shutil.rmtree(sites.directory / "lyon")
            sites.introduce("paris", "lyon", "nice")  # with another key
            async with running(sites, "lyon") as (lyon,):
                everybody = [*nodes, lyon]
                lyon.document.write([Change("note", "2", {"present": True})])
                await until(lambda: all_reach(everybody) and all_equal(everybody))
                assert all(node.document.record("note", key).present for node in everybody for key in "12")
                assert lyon.document.record("note", "1").authors["text"] == "lyon"

    asyncio.run(main())


def test_what_a_site_wrote_outlives_it(sites):
    async def main():
        sites.introduce("paris", "lyon")
        async with running(sites, "paris", "lyon") as nodes:
            nodes[1].document.write(NOTE)
            await until(lambda: all_reach(nodes) and all_equal(nodes))
        sites.introduce("paris", "nice")  # lyon was destroyed; nice has never heard of it
        async with running(sites, "paris", "nice") as nodes:
            await until(lambda: all_reach(nodes) and all_equal(nodes))
            assert all(node.document.record("note", "1").present for node in nodes)
            assert all(set(states(node)) == {"paris", "nice"} for node in nodes)

    asyncio.run(main())


def test_leave(sites):
    async def main():
        sites.introduce("paris", "lyon", "nice")
        async with running(sites, "paris", "lyon") as nodes:
            paris, lyon = nodes
            async with running(sites, "nice") as (nice,):
                await until(lambda: all_reach([*nodes, nice]) and all_equal([*nodes, nice]))
                await nice.leave()
                assert states(paris)["nice"] == states(lyon)["nice"] == "left"
                assert paris.site_of_fingerprint(nice.members()["nice"].fingerprint) is None
                assert paris.reachable() == ["lyon"]
                assert nice.reachable() == []
                assert nice.site_of_fingerprint(paris.members()["paris"].fingerprint) is None
            before = paris.document.digest()
            async with running(sites, "nice") as (nice,):  # a cloud of its own, also when it is started anew
                nice.document.write(NOTE)
                await asyncio.sleep(0.5)
                assert states(nice) == {"lyon": "left", "paris": "left", "nice": "left"}
                assert paris.document.digest() == before

    asyncio.run(main())


def test_revoked(sites):
    async def main():
        sites.introduce("paris", "lyon", "nice")
        async with running(sites, "paris", "lyon", "nice") as nodes:
            paris, lyon, nice = nodes
            await until(lambda: all_reach(nodes) and all_equal(nodes))
            nice.document.write(NOTE)
            await until(lambda: all_equal(nodes))
            fingerprint = nice.members()["nice"].fingerprint
            await paris.revoke("nice")
            await until(lambda: states(lyon)["nice"] == "revoked")
            for node in (paris, lyon):
                assert node.reachable() == [({"paris", "lyon"} - {node.site}).pop()]
                assert node.certificate_of("nice") is None
                assert node.site_of_fingerprint(fingerprint) is None
                assert node.document.record("note", "1").present  # from before
            before = paris.document.digest()
            nice.document.write([Change("note", "1", {"text": "changed"}), Change("note", "2", {"present": True})])
            await until(lambda: paris.status()["refused"].get("stranger", 0) > 0 and lyon.status()["refused"].get("stranger", 0) > 0)
            assert paris.document.digest() == before
            assert paris.document.record("note", "2") is None
            with pytest.raises(Refused):
                lyon.document.write([Change("revocation", "nice", {"present": False})])
            assert states(lyon)["nice"] == "revoked"
        async with running(sites, "paris", "lyon") as nodes:  # for ever
            await until(lambda: all_reach(nodes))
            assert {states(node)["nice"] for node in nodes} == {"revoked"}

    asyncio.run(main())


def test_what_cant_be_revoked(sites):
    async def main():
        sites.introduce("paris")
        async with running(sites, "paris") as (paris,):
            for name, code in (("paris", "mesh.refused"), ("rome", "site.unknown")):
                with pytest.raises(AtollError) as caught:
                    await paris.revoke(name)
                assert caught.value.kind.code == code

    asyncio.run(main())


@pytest.mark.parametrize("who", ["no certificate", "a foreign authority"])
def test_who_has_no_certificate_of_the_authority_gets_no_connection(sites, tmp_path, who):
    async def main():
        sites.introduce("paris", "lyon")
        foreign = tmp_path / "foreign"
        authority(foreign / "ca", "unit").certify(foreign / "tls", "lyon", "127.0.0.1")
        async with running(sites, "paris") as (paris,):
            with pytest.raises(zenoh.ZError):
                await asyncio.to_thread(Raw, sites, "paris", foreign / "tls" if who == "a foreign authority" else None)
            assert paris.status()["traffic"]["received_bytes"] == 0

    asyncio.run(main())


def test_a_certificate_alone_makes_no_member(sites, caplog):
    async def main():
        sites.introduce("paris", "lyon")
        stranger = sites.options("rome")
        async with running(sites, "paris", "lyon") as nodes:
            paris, lyon = nodes
            await until(lambda: all_reach(nodes) and all_equal(nodes))
            before = paris.document.digest(), set(states(paris))
            raw = await asyncio.to_thread(Raw, sites, "paris", stranger.tls)
            sealer = envelopes_of(sites, "rome", lyon)
            raw.send(sealer.hello("paris"))
            raw.send(sealer.hello("paris", b'[{"card": {}, "by": "rome", "stamp": 1, "signature": ""}]'))
            raw.send(b"\x02garbage")
            await until(lambda: paris.status()["refused"] == {"stranger": 2, "malformed": 1})
            assert (paris.document.digest(), set(states(paris))) == before
            raw.close()
        assert "is refused: stranger" in caplog.text

    asyncio.run(main())


def test_a_stranger_cant_admit_itself(sites):
    async def main():
        sites.introduce("paris", "lyon")
        stranger = Mesh(sites.options("rome"))
        async with running(sites, "paris") as (paris,):
            stranger._membership.admit(sites.options("rome").card())
            voucher = stranger._membership.vouchers_for("rome")
            raw = await asyncio.to_thread(Raw, sites, "paris", sites.options("rome").tls)
            card = json.dumps({"former": sites.options("rome").card().dump()}).encode()
            for said in (voucher, card):
                raw.send(envelopes_of(sites, "rome", paris).hello("paris", said))
            await until(lambda: paris.status()["refused"] == {"stranger": 2})
            assert "rome" not in paris.members()
            assert paris._roster.certificate("rome") is None
            raw.close()
        stranger._store.close()
        stranger._invitations.close()

    asyncio.run(main())


def test_a_member_cant_speak_for_another_or_overhear_it(sites):
    async def main():
        sites.introduce("paris", "lyon", "nice")
        async with running(sites, "paris", "lyon") as nodes:
            paris, lyon = nodes
            await until(lambda: all_reach(nodes))
            raw = await asyncio.to_thread(Raw, sites, "paris", sites.options("nice").tls)
            heard = []
            spy = await asyncio.to_thread(Raw, sites, "paris", sites.options("nice").tls)
            spy.session.declare_subscriber("**", heard.append)
            # Nice has its own key, and lyon's name.
            impostor = envelopes_of(sites, "nice", paris)
            impostor.fingerprint = lyon.members()["lyon"].fingerprint
            raw.send(impostor.hello("paris"))
            await until(lambda: paris.status()["refused"].get("forged") == 1)
            # What lyon says to paris, said again.
            captured = []
            original = paris._conversation.transport._on_message
            paris._conversation.transport._on_message = lambda data: (captured.append(data), original(data))
            await until(lambda: any(data[0] == Channel.PROBE for data in captured))
            raw.send(next(data for data in captured if data[0] == Channel.PROBE))
            await until(lambda: paris.status()["refused"].get("replayed", 0) >= 1)
            lyon.document.write(NOTE)
            await until(lambda: all_equal(nodes))
            assert heard == []
            raw.close()
            spy.close()

    asyncio.run(main())


def test_a_hostile_member(sites):
    async def main():
        sites.introduce("paris", "lyon", "nice")
        async with running(sites, "paris", "lyon") as nodes:
            paris, _ = nodes
            await until(lambda: all_reach(nodes) and all_equal(nodes))
            raw = await asyncio.to_thread(Raw, sites, "paris", sites.options("nice").tls)
            sealer = envelopes_of(sites, "nice", paris)
            listener = Raw.__new__(Raw)
            answers = []
            # It listens where nice listens, to be welcomed.
            options = sites.options("nice")
            files = Tls(*(str(options.tls / name) for name in ("ca.pem", "cert.pem", "key.pem")))
            listener.session = zenoh.open(
                session_config(mode="peer", listen=[f"tls/{options.host}:{options.mesh_port}"], connect=[], tls=files)
            )
            listener.session.declare_subscriber("atoll/mesh/nice", lambda sample: answers.append(bytes(sample.payload)))
            raw.send(sealer.hello("paris"))
            await until(lambda: any(data[0] == Channel.WELCOME for data in answers))
            sealer.open(next(data for data in answers if data[0] == Channel.WELCOME))
            before = paris.document.digest(), set(states(paris))
            hostile = {
                Channel.PROBE: [b"", os.urandom(50)],
                Channel.SYNC: [b"\xc1", os.urandom(500), b"\x91\x02"],
                Channel.WHO: [b"\xff\xfe"],
                Channel.VOUCH: [b"[1, 2", b'{"a": 1}', b"[]" * 9, b"[" * 100_000],
            }
            hostile = [(channel, payload) for channel, payloads in hostile.items() for payload in payloads]
            for channel, payload in hostile:
                raw.send(sealer.seal("paris", channel, payload))
            await until(lambda: paris.status()["refused"].get("senseless", 0) >= 6)
            await asyncio.sleep(0.2)
            assert (paris.document.digest(), set(states(paris))) == before
            assert paris.reachable() == ["lyon"]
            raw.close()
            listener.session.close()

    asyncio.run(main())


def test_a_clock_that_is_an_hour_off_does_not_matter(sites):
    async def main():
        sites.introduce("paris", "lyon")
        late = Mesh(sites.options("lyon"), now_ms=lambda: time.time_ns() // 1_000_000 - 3_600_000)
        async with running(sites, "paris") as (paris,):
            await late.start()
            await until(lambda: all_reach([paris, late]) and all_equal([paris, late]))
            paris.document.write(NOTE)
            await until(lambda: late.document.record("note", "1") is not None)
            late.document.write([Change("note", "1", {"text": "later"})])
            await until(lambda: paris.document.record("note", "1").fields["text"] == "later")
            await late.stop()

    asyncio.run(main())


def test_probes_that_were_held_up_move_no_clock(sites):
    """As after a cut of the link that was shorter than the patience of TCP, or by whoever delays packets."""
    sites.introduce("paris", "lyon", "nice")

    async def main() -> None:
        async with running(sites, "paris", "lyon", "nice") as nodes:
            await until(lambda: all_reach(nodes))
            paris, *others = nodes
            for other in others:
                late = Probe(Ping(1 << 31), Coordinate(), other.document.digest(), time.time_ns() // 10**6 - 30_000)
                paris._conversation._on_probe(other.site, late.encode())
            assert paris.status()["clock_ahead_s"] == 0

    asyncio.run(main())


def test_a_site_whose_clock_is_wrong_goes_by_those_of_the_others(sites, tmp_path, caplog):
    sites.introduce("paris", "lyon", "nice")
    ahead_s = {"paris": 0, "lyon": 3600, "nice": 0}

    async def main() -> None:
        nodes = [
            Mesh(sites.options(name, time_file=tmp_path / f"{name}.time"), lambda ahead=ahead: time.time_ns() // 10**6 + ahead * 1000)
            for name, ahead in ahead_s.items()
        ]
        readers = [Reader(tmp_path / f"{name}.time") for name in ahead_s]
        try:
            for node in nodes:
                await node.start()
            await until(lambda: [round(node.status()["clock_ahead_s"]) for node in nodes] == [0, 3600, 0])
            await until(lambda: all(abs(reader.now_ns() - time.time_ns()) < 10**9 for reader in readers))
        finally:
            await asyncio.gather(*(node.stop() for node in nodes))

    asyncio.run(main())
    assert "this site's clock is 3600.0 s ahead of the other sites' clocks: set it right" in caplog.text
