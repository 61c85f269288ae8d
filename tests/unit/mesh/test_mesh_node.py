"""Nodes with real Zenoh sessions over TLS on loopback."""

import asyncio
import contextlib
import json
import os
import shutil
import time

import pytest
import zenoh

from atoll.errors import AtollError
from atoll.mesh import node as node_module
from atoll.mesh import tombstones
from atoll.mesh.admission import Application, Token, join
from atoll.mesh.agreed_time import TimeReader
from atoll.mesh.certificates import authority
from atoll.mesh.envelope import Channel, Envelopes
from atoll.mesh.node import Mesh
from atoll.mesh.probes import ProbeMessage
from atoll.mesh.record import Change
from atoll.mesh.refusals import Refused
from atoll.mesh.signing import Signer
from atoll.mesh.swim import Ping
from atoll.mesh.vivaldi import Coordinate
from atoll.zenoh_link.config import Tls, session_config

NOTE = [Change("note", "1", {"present": True, "text": "hello"})]


async def until(condition, seconds: float = 10) -> float:
    """Wait for a condition; return the seconds that it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "the condition did not become true in time"
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
    """A sender with a raw Zenoh session, with or without a certificate."""

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
    """Return envelopes of a site under the test's control, with the members that `node` knows."""
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
    for name, value in {"DROP_AFTER_MS": -60_000, "MIN_WASTE": 0, "is_worthwhile": lambda waste, _weight: waste > 0}.items():
        monkeypatch.setattr(tombstones, name, value)
    monkeypatch.setattr(node_module, "_TIDY_S", 0.2)

    async def main():
        sites.introduce("paris", "lyon", "nice")
        async with running(sites, "paris", "lyon") as nodes:
            await until(lambda: all_reach(nodes))
            nodes[0].document.write(NOTE)
            nodes[0].document.write([Change("note", "1", {"present": False})])
            await until(lambda: all_equal(nodes))
            await asyncio.sleep(2)
            assert nodes[0].document.record("note", "1"), "the tombstone must stay until nice has it"
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
            changes = []
            paris.on_members(changes.append)
            async with running(sites, "nice") as (nice,):
                first_s = await until(lambda: all_reach([*nodes, nice]), 60)
            assert any("nice" in names for names in changes)  # perhaps with lyon, if that was slow to answer at the same time
            await until(lambda: paris.reachable() == ["lyon"] and lyon.reachable() == ["paris"], 30)
            await until(lambda: states(paris)["nice"] == states(lyon)["nice"] == "unreachable", 30)
            paris.document.write(NOTE)
            async with running(sites, "nice") as (nice,):
                again_s = await until(lambda: all_reach([*nodes, nice]) and all_equal([*nodes, nice]), 60)
                assert again_s < 5 + 5 * first_s, "a return must not take longer than the first start, whatever the load of the machine"

    asyncio.run(main())


def test_a_site_is_probed_immediately_after_a_failed_request(sites):
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


@pytest.mark.parametrize("ahead_s", [3600, -3600])
def test_token_to_join_lives_as_long_as_it_was_made_for_though_the_clock_is_wrong(sites, ahead_s):
    async def main():
        sites.introduce("paris", "lyon")
        paris = Mesh(sites.options("paris"), lambda: time.time_ns() // 1_000_000 + ahead_s * 1000)
        for other in ("lyon", "nice"):
            paris._time.observe(other, time.time_ns() // 1_000_000, 1.0)
        paris.invite("rome", 60.0)
        ((expires_ms,),) = paris._invitations._database.execute("SELECT expires FROM invitation").fetchall()
        assert expires_ms == pytest.approx((time.time() + 60) * 1000, abs=30_000)
        paris._invitations.close()
        paris._store.close()

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
            joined = join(token, Application.make(token, options.host, ports, ""), lambda _host, _port, body: paris.redeem(body))
            (options.tls / "key.pem").write_text(joined.key)
            (options.tls / "cert.pem").write_text(joined.certificate)
            # Its members' file names one site only.
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
    """The member that admitted it has gone before the others received the admission."""

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
    """Lyon and nice each have only paris in their files; paris has both in its file, and has admitted neither."""

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


def test_entries_of_a_site_outlive_it(sites):
    async def main():
        sites.introduce("paris", "lyon")
        async with running(sites, "paris", "lyon") as nodes:
            nodes[1].document.write(NOTE)
            await until(lambda: all_reach(nodes) and all_equal(nodes))
        sites.introduce("paris", "nice")  # lyon was destroyed; nice has never received a message of it
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
            async with running(sites, "nice") as (nice,):  # a cloud of its own, also after a restart
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
                assert node.document.record("note", "1").present  # from before the revocation
            before = paris.document.digest()
            nice.document.write([Change("note", "1", {"text": "changed"}), Change("note", "2", {"present": True})])
            await until(lambda: paris.status()["refused"].get("stranger", 0) > 0 and lyon.status()["refused"].get("stranger", 0) > 0)
            assert paris.document.digest() == before
            assert paris.document.record("note", "2") is None
            with pytest.raises(Refused):
                lyon.document.write([Change("revocation", "nice", {"present": False})])
            assert states(lyon)["nice"] == "revoked"
        async with running(sites, "paris", "lyon") as nodes:  # the revocation lasts
            await until(lambda: all_reach(nodes))
            assert {states(node)["nice"] for node in nodes} == {"revoked"}

    asyncio.run(main())


def test_sites_that_cannot_be_revoked(sites):
    async def main():
        sites.introduce("paris")
        async with running(sites, "paris") as (paris,):
            for name, code in (("paris", "mesh.refused"), ("rome", "site.unknown")):
                with pytest.raises(AtollError) as caught:
                    await paris.revoke(name)
                assert caught.value.kind.code == code

    asyncio.run(main())


@pytest.mark.parametrize("who", ["no certificate", "a foreign authority"])
def test_no_connection_without_a_certificate_of_the_authority(sites, tmp_path, who):
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
        assert "an unknown site: stranger" in caplog.text

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
            # Nice signs with its own key, but names lyon as the sender.
            impostor = envelopes_of(sites, "nice", paris)
            impostor.fingerprint = lyon.members()["lyon"].fingerprint
            raw.send(impostor.hello("paris"))
            await until(lambda: paris.status()["refused"].get("forged") == 1)
            # A message of lyon to paris, sent again.
            captured = []
            original = paris._protocol.transport._on_message
            paris._protocol.transport._on_message = lambda data: (captured.append(data), original(data))
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
            # It listens at nice's address, to receive the welcome.
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
    """As after a cut of the link that TCP survived, or with an attacker who delays packets."""
    sites.introduce("paris", "lyon", "nice")

    async def main() -> None:
        async with running(sites, "paris", "lyon", "nice") as nodes:
            await until(lambda: all_reach(nodes))
            paris, *others = nodes
            for other in others:
                late = ProbeMessage(Ping(1 << 31), Coordinate(), other.document.digest(), time.time_ns() // 10**6 - 30_000)
                paris._protocol._on_probe(other.site, late.encode())
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
        readers = [TimeReader(tmp_path / f"{name}.time") for name in ahead_s]
        try:
            for node in nodes:
                await node.start()
            await until(lambda: [round(node.status()["clock_ahead_s"]) for node in nodes] == [0, 3600, 0])
            await until(lambda: all(abs(reader.now_ns() - time.time_ns()) < 10**9 for reader in readers))
        finally:
            await asyncio.gather(*(node.stop() for node in nodes))

    asyncio.run(main())
    assert "this site's clock is 3600.0 s ahead of the other sites' clocks: set it right" in caplog.text
