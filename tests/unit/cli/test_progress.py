import io

from rich.console import Console

from atoll.cli.output import duration, megabytes
from atoll.cli.progress import Progress
from atoll.runtime.events import Event, ProcessState


def event(name: str, state: str, seconds: float = 0.0, detail: str = "") -> Event:
    return Event(name, ProcessState(state), seconds, detail)


def console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, force_terminal=terminal, width=60, height=8, color_system=None), out


def test_nothing_is_shown_of_what_is_over_soon():
    there, out = console(terminal=False)
    with Progress("starting", there) as progress:
        progress.event(event("a/nova", "ready", 0.1))
    assert out.getvalue() == ""


def test_plain_lines_once_patience_is_over():
    there, out = console(terminal=False)
    with Progress("starting", there) as progress:
        progress.event(event("template/nova", "starting"))
        progress.event(event("a/nova", "starting"))
        progress.show()
        progress.event(event("a/nova", "ready", 2.04))
        progress.event(event("b/nova", "ready", 2.04, "unchanged"))
        progress.event(event("a/glance", "restarting"))
    assert out.getvalue() == "starting …\ntemplate/nova: starting\na/nova: ready after 2.0 s\na/glance: restarting\n"


def test_terminal_gets_a_list_that_fits_with_what_goes_on_first():
    there, _out = console(terminal=True)
    now = [0.0]
    progress = Progress("starting", there, clock=lambda: now[0])
    for number in range(20):
        progress.event(event(f"a/{number}", "ready", 1.0))
    progress.event(event("a/nova", "starting"))
    now[0] = 4.0
    capture, out = console(terminal=False)
    capture.print(progress._table())
    lines = [" ".join(line.split()) for line in out.getvalue().splitlines()]
    assert lines[:3] == ["starting 20 of 21 4 s", "a/nova starting 4.0 s", "a/0 ready 1.0 s"]
    assert len(lines) == 6


def test_live_list_is_taken_away_at_the_end():
    there, out = console(terminal=True)
    with Progress("starting", there) as progress:
        progress.show()
        progress.event(event("a/nova", "starting"))
    assert "starting" in out.getvalue()
    assert progress._live is not None
    assert not progress._live.is_started


def test_numbers_for_a_person():
    assert [megabytes(number) for number in (None, 0, 70_400_000)] == ["", "0 MB", "70 MB"]
    assert [duration(number) for number in (None, 0.4, 59, 61, 3600, 90_000)] == ["", "0s", "59s", "1m 01s", "1h 00m", "1d 01h"]
