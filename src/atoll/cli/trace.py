"""`atoll trace`: shows and analyses recorded requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from atoll.cli.output import data_console, new_table, plain, print_json
from atoll.cli.session import Session
from atoll.cli.verb import complete_site, group, json_option, verb
from atoll.errors import AtollError

if TYPE_CHECKING:
    from atoll.trace.analysis import Operation
    from atoll.trace.tree import Trace

_AS_TYPED = {"ignore_unknown_options": True, "allow_interspersed_args": False}


@group("trace", "atoll trace run -- openstack server create …\natoll trace show latest --html trace.html")
def command() -> None:
    """Show recorded requests, and the calls among them that could be saved.

    ID is the id of a trace, the beginning of one, `latest`, or a file of `atoll trace export`.
    """


def complete_trace(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the ids of the latest traces, for the shell."""
    from atoll.site.traces import LATEST, summaries

    session = Session()
    session.directory = ctx.find_root().params.get("state")
    try:
        ids = [LATEST, *(each.trace for each in summaries(session.state, 50))]
    except AtollError:
        return []
    return [CompletionItem(each) for each in ids if each.startswith(incomplete)]


_id = click.argument("trace", metavar="ID", shell_complete=complete_trace)


@verb("list", "atoll trace list\natoll trace list --limit 100 --json")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Number of traces, the latest first.")
@json_option
@click.pass_obj
def list_(session: Session, limit: int, *, as_json: bool) -> None:
    """List the latest traces of all sites."""
    from atoll.site import traces
    from atoll.trace import analysis, tree

    rows = [analysis.totals(tree.build(traces.spans(session.state, each.trace))) for each in traces.summaries(session.state, limit)]
    if as_json:
        print_json(rows)
        return
    table = new_table(
        "ID", "BEGAN", "REQUEST", "SITES", "ANSWERED", "COMPLETE", "SPANS", "ERRORS", numbers=("ANSWERED", "COMPLETE", "SPANS")
    )
    for row in rows:
        times = (f"{row['answered_ms']:.0f} ms", f"{row['complete_ms']:.0f} ms")
        table.add_row(
            row["trace"], _when(row["start_ns"]), row["name"], ",".join(row["sites"]), *times, str(row["spans"]), str(row["errors"] or "")
        )
    data_console().print(table)


def _when(ns: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")


@verb("show", "atoll trace show latest\natoll trace show 4bf92f --html trace.html\natoll trace show 4bf92f --json")
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write an HTML page to FILE that needs no network."
)
@click.option("--all", "every", is_flag=True, help="Print all operations, not the 25 that took longest.")
@json_option
@_id
@click.pass_obj
def show(session: Session, trace: str, html: Path | None, *, every: bool, as_json: bool) -> None:
    """Show a trace: its calls by operation, with duplicates and calls that could be merged."""
    from atoll.site import traces
    from atoll.trace import analysis, page

    found, _spans = traces.find(session.state, trace)
    if html is not None:
        html.write_text(page.render(found), encoding="utf-8")
        click.echo(f"wrote {html}")
        return
    table = analysis.operations(found)
    if as_json:
        told = {"operations": [asdict(each) for each in table], "links": [asdict(each) for each in analysis.links(found)]}
        print_json(analysis.totals(found) | told | {"tree": [page.row(found, node) for node in found.walk()]})
        return
    _print(found, table, None if every else 25)


def _print(trace: Trace, table: Sequence[Operation], limit: int | None) -> None:
    from atoll.trace import analysis

    told = analysis.totals(trace)
    calls = ", ".join(f"{count} {name}" for name, count in told["calls"].items())
    click.echo(plain(f"{told['trace']}  {told['name']}  at {', '.join(told['sites'])}"))
    click.echo(f"answered after {told['answered_ms']:.0f} ms, complete after {told['complete_ms']:.0f} ms; {told['spans']} spans: {calls}")
    click.echo(f"{told['duplicates']} calls are duplicates, {told['mergeable']} could be merged with others of their kind")
    if told["orphans"]:
        click.echo(f"the trace is incomplete: the parents of {told['orphans']} spans are in no store")
    data_console().print(_operations(table[:limit]))
    if limit is not None and len(table) > limit:
        click.echo(f"… and {len(table) - limit} more: --all")


def _operations(table: Sequence[Operation]) -> Any:
    titles = ("CALLER", "CALLEE", "OPERATION", "CALLS", "MS", "SENT", "RECEIVED", "DUPLICATE", "MERGEABLE", "SAVES MS")
    made = new_table(*titles, numbers=titles[3:])
    for each in table:
        saves = each.duplicate_ms + each.mergeable_ms
        counts = (str(each.count), f"{each.ms:.1f}", str(each.request_bytes), str(each.response_bytes))
        made.add_row(
            each.caller,
            each.callee,
            each.name,
            *counts,
            str(each.duplicates or ""),
            str(each.mergeable or ""),
            f"{saves:.1f}" if saves else "",
        )
    return made


@verb("top", "atoll trace top\natoll trace top --limit 200 --json")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Number of the latest traces to evaluate.")
@json_option
@click.pass_obj
def top(session: Session, limit: int, *, as_json: bool) -> None:
    """Show which operations the latest traces spent their time on."""
    from atoll.site import traces
    from atoll.trace import analysis, tree

    found: dict[tuple[str, str, str], Operation] = {}
    for each in traces.summaries(session.state, limit):
        for operation in analysis.operations(tree.build(traces.spans(session.state, each.trace))):
            key = (operation.caller, operation.callee, operation.name)
            if key in found:
                found[key].add(operation)
            else:
                found[key] = operation
    table = sorted(found.values(), key=lambda each: -each.ms)
    if as_json:
        print_json([asdict(each) for each in table])
        return
    data_console().print(_operations(table[:25]))


@verb("diff", "atoll trace diff before.json latest\natoll trace diff 4bf92f 00f067 --json")
@json_option
@click.argument("before", metavar="A", shell_complete=complete_trace)
@click.argument("after", metavar="B", shell_complete=complete_trace)
@click.pass_obj
def diff(session: Session, before: str, after: str, *, as_json: bool) -> None:
    """Compare two traces of one operation: which calls B makes more often than A, and which less often."""
    from atoll.site import traces
    from atoll.trace import analysis

    sides = [
        {(each.caller, each.callee, each.name): each for each in analysis.operations(traces.find(session.state, name)[0])}
        for name in (before, after)
    ]
    rows = [_difference(key, sides[0].get(key), sides[1].get(key)) for key in sorted({*sides[0], *sides[1]})]
    rows.sort(key=lambda row: (-abs(row["more_calls"]), -abs(row["more_ms"])))
    if as_json:
        print_json(rows)
        return
    titles = ("CALLER", "CALLEE", "OPERATION", "CALLS A", "CALLS B", "MORE", "MS A", "MS B")
    table = new_table(*titles, numbers=titles[3:])
    for row in rows:
        if row["more_calls"]:
            numbers = (*map(str, row["calls"]), f"{row['more_calls']:+}", *(f"{ms:.1f}" for ms in row["ms"]))
            table.add_row(row["caller"], row["callee"], row["name"], *numbers)
    if not table.row_count:
        click.echo("both traces make the same calls, equally often")
        return
    data_console().print(table)


def _difference(key: tuple[str, str, str], before: Operation | None, after: Operation | None) -> dict[str, Any]:
    counts = [side.count if side is not None else 0 for side in (before, after)]
    times = [side.ms if side is not None else 0.0 for side in (before, after)]
    named = dict(zip(("caller", "callee", "name"), key, strict=True))
    return {**named, "calls": counts, "ms": times, "more_calls": counts[1] - counts[0], "more_ms": times[1] - times[0]}


@verb("export", "atoll trace export latest --output trace.json\natoll trace export 4bf92f --format chrome --output perfetto.json")
@click.option(
    "--format",
    "kind",
    type=click.Choice(("otlp", "chrome", "html")),
    default="otlp",
    show_default=True,
    help="OTLP JSON; trace events for Perfetto and Chrome; an HTML page.",
)
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="The file to write. [default: standard output]"
)
@_id
@click.pass_obj
def export(session: Session, trace: str, kind: str, output: Path | None) -> None:
    """Write a trace in a format that other viewers open, and that other machines can read."""
    import json

    from atoll.site import traces
    from atoll.trace import formats, page

    found, spans = traces.find(session.state, trace)
    text = page.render(found) if kind == "html" else json.dumps(formats.to_otlp(spans) if kind == "otlp" else formats.to_chrome(found))
    if output is None:
        click.echo(text)
    else:
        output.write_text(text, encoding="utf-8")


class _Milliseconds(click.ParamType[float]):
    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number of milliseconds that a text such as `100ms` names."""
        from atoll.cloud.quantities import milliseconds

        if isinstance(value, float):
            return value
        try:
            return milliseconds(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@verb("whatif", "atoll trace whatif latest --rtt 100ms\natoll trace whatif boot.json --rtt 200ms --place nova-compute=far --json")
@click.option("--rtt", "rtt_ms", type=_Milliseconds(), required=True, help="The round trip between two sites, such as 100ms.")
@click.option(
    "--recorded-rtt",
    "recorded_rtt_ms",
    type=_Milliseconds(),
    default="0ms",
    help="The round trip when the trace was recorded; default: 0ms.",
)
@click.option(
    "--place",
    multiple=True,
    metavar="SERVICE=SITE",
    help="Predict with SERVICE at another site: a service, or a part of Nova such as nova-compute.",
)
@click.option("--until", default="", metavar="NAME", help="The operation is complete with the last span whose name ends in NAME.")
@json_option
@_id
@click.pass_obj
def whatif(  # noqa: PLR0913 - an option each
    session: Session, trace: str, rtt_ms: float, recorded_rtt_ms: float, place: tuple[str, ...], *, until: str, as_json: bool
) -> None:
    """Predict how long an operation would take with another delay between sites, or with services elsewhere."""
    from atoll.site import traces
    from atoll.trace.whatif import predict

    moved = dict(each.partition("=")[::2] for each in place)
    if not all(name and site for name, site in moved.items()):
        raise click.UsageError("--place: expected SERVICE=SITE, such as nova-compute=far")
    found, _spans = traces.find(session.state, trace)
    roles = {name for node in found.walk() for name in (node.role, node.span.service)}
    if unknown := sorted(set(moved) - roles):
        expected = ", ".join(sorted(roles))
        raise AtollError("trace.invalid", f"the trace has no service {unknown[0]}: expected one of {expected}", "correct --place")
    try:
        told = predict(found, rtt_ms, moved, recorded_rtt_ms, until)
    except ValueError as error:
        raise AtollError("trace.invalid", f"--until: {error}", "`atoll trace show --all` lists the names") from None
    if as_json:
        print_json(asdict(told))
        return
    for name, before, after, trips in (
        ("answered", told.answered_ms, told.predicted_answered_ms, told.round_trips_answered),
        ("complete", told.complete_ms, told.predicted_complete_ms, told.round_trips_complete),
    ):
        click.echo(f"{name}  {before:.0f} ms -> {after:.0f} ms  ({trips:g} sequential round trips between sites)")
    click.echo(f"{told.crossings} calls cross from one site to another")


@verb(
    "run", "atoll trace run -- openstack server list\natoll trace run --site lyon -- openstack server create …", context_settings=_AS_TYPED
)
@click.option("--site", metavar="SITE", shell_complete=complete_site, help="The site. [default: the first]")
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write an HTML page to FILE, instead of a table."
)
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED, metavar="[--] PROGRAM [ARGS]...")
@click.pass_obj
def run(session: Session, site: str | None, html: Path | None, program: tuple[str, ...]) -> int:
    """Run a program in a site, as `atoll exec` does, and show the trace of its requests.

    OpenStack's client sends the trace's context with each request; other programs find it in TRACEPARENT and TRACESTATE. The exit code is
    the program's.
    """
    from atoll.site import trace_run, traces
    from atoll.trace import analysis, page

    words = program[1:] if program[0] == "--" else program
    if not words:
        raise click.UsageError("no program is given: expected a program and its arguments")
    trace, code = trace_run.run(session.state, site, words)
    found, _spans = traces.find(session.state, trace)
    if html is not None:
        html.write_text(page.render(found), encoding="utf-8")
        click.echo(f"wrote {html}", err=True)
    else:
        click.echo("")
        _print(found, analysis.operations(found), 25)
    return code


for _each in (list_, show, top, diff, export, whatif, run):
    command.add_command(_each)
