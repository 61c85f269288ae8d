"""The times of an application's answers."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from atoll.bench.cloudlet import answers
from atoll.bench.cloudlet.answers import AnswerWatch, longest_gap
from atoll.errors import AtollError


def test_longest_gap_is_between_answers_of_both_places():
    source, destination = [1.0, 1.1, 1.2], [9.5, 9.6]
    assert longest_gap(source + destination) == pytest.approx(8.3)
    assert longest_gap(destination + source) == pytest.approx(8.3)


def test_answers_at_both_places_close_a_gap():
    assert longest_gap([1.0, 2.0, 5.0, *(2.5, 3.5)]) == pytest.approx(1.5)


@pytest.mark.parametrize("times", [[], [1.0]])
def test_gap_needs_two_answers(times):
    with pytest.raises(AtollError, match=f"answered {len(times)} times"):
        longest_gap(times)


def test_watch_records_only_answers():
    outcomes, enough = iter([False, True, False, True]), threading.Event()

    def ask() -> bool:
        answered = next(outcomes, None)
        if answered is None:
            enough.set()
        return bool(answered)

    with AnswerWatch(ask, interval_s=0.001) as watch:
        first = watch.first("it", 5.0)
        assert enough.wait(5.0)
    assert len(watch.times) == 2
    assert first == watch.times[0] < watch.times[1]


def test_no_answer_in_time():
    with AnswerWatch(lambda: False, interval_s=0.001) as watch, pytest.raises(AtollError, match="the server answers"):
        watch.first("the server", 0.02)


@pytest.mark.parametrize(("status", "wanted"), [(200, True), (404, True), (503, False)])
def test_error_of_the_server_is_no_answer(status, wanted, monkeypatch):
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            """Suppress the log of requests."""

    monkeypatch.setattr(answers, "within", lambda _network, work: work())
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        monkeypatch.setattr(answers, "_PORT", server.server_port)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        assert answers.answers(-1, "127.0.0.1") is wanted
        server.shutdown()
    assert answers.answers(-1, "127.0.0.1") is False, "the server has ended"
    assert asked == ["/atoll-bench"], "no page that costs the guest computation"
