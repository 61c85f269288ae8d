import socket

import pytest

from atoll.pokes import FORGET, Poker, drain, receiver


def waiting(poked: socket.socket) -> int:
    """Return the number of pokes that wait."""
    count = 0
    while True:
        try:
            poked.recv(16, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return count
        count += 1


@pytest.fixture
def poker():
    made = Poker()
    yield made
    made._socket.close()


def test_poke_arrives(tmp_path, poker):
    with receiver(tmp_path / "run/a") as poked:
        poker.poke(tmp_path / "run/a")
        poker.poke(str(tmp_path / "run/a"))
        assert waiting(poked) == 2
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700


def test_many_are_taken_as_one(tmp_path, poker):
    with receiver(tmp_path / "a") as poked:
        drain(poked)
        for _ in range(5):
            poker.poke(tmp_path / "a")
        drain(poked)
        assert waiting(poked) == 0


def test_a_missing_receiver_is_not_an_error(tmp_path, poker):
    poker.poke(tmp_path / "nobody")
    receiver(tmp_path / "killed").close()
    poker.poke(tmp_path / "killed")
    poker.poke(tmp_path / ("x" * 200))


def test_a_receiver_that_does_not_read_keeps_no_sender_waiting(tmp_path, poker):
    with receiver(tmp_path / "busy") as poked:
        for _ in range(10_000):
            poker.poke(tmp_path / "busy")
        assert 0 < waiting(poked) < 10_000


def test_socket_of_a_process_that_was_killed_is_replaced(tmp_path, poker):
    with receiver(tmp_path / "a") as before, receiver(tmp_path / "a") as after:
        poker.poke(tmp_path / "a")
        assert (waiting(before), waiting(after)) == (0, 1)


def test_all_who_hold_caches_are_told_to_forget_and_nobody_else(tmp_path, poker):
    names = (f"{FORGET}nova", f"{FORGET}keystone", "mesh.poke")
    receivers = [receiver(tmp_path / name) for name in names]
    receiver(tmp_path / f"{FORGET}killed").close()
    poker.forget(tmp_path)
    poker.forget(tmp_path / "nowhere")
    assert [waiting(poked) for poked in receivers] == [1, 1, 0]
    for poked in receivers:
        poked.close()
