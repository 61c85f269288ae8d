import socket

import pytest

from atoll.wan.probe import Probe, open_socket


@pytest.fixture
def sockets():
    made = {name: open_socket("127.0.0.1") for name in "abc"}
    yield made
    for each in made.values():
        each.close()


def test_every_packet_comes_back(sockets):
    pairs = [("a", "b"), ("b", "a"), ("c", "a")]
    found = Probe(sockets, pairs, 3, 0.01).run(5)
    assert list(found) == pairs
    for echoes in found.values():
        assert all(echo.rtt_ms is not None and 0 < echo.rtt_ms < 5000 for echo in echoes)
        assert [echo.sent_s for echo in echoes] == sorted(echo.sent_s for echo in echoes)


def test_a_site_that_does_not_answer_is_awaited_and_reported(sockets):
    deaf = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    deaf.bind(("127.0.0.1", 0))
    probe = Probe(sockets, [("a", "b"), ("a", "c")], 2, 0.01)
    probe._addresses["c"] = deaf.getsockname()
    found = probe.run(0.2)
    assert [echo.rtt_ms for echo in found["a", "c"]] == [None, None]
    assert all(echo.rtt_ms is not None for echo in found["a", "b"])
    deaf.close()


def test_strangers_are_not_listened_to(sockets):
    probe = Probe(sockets, [("a", "b")], 1, 0.01)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"hello", sockets["a"].getsockname())
        stranger.sendto(bytes(17), sockets["a"].getsockname())
    assert probe.run(5)["a", "b"][0].rtt_ms is not None
