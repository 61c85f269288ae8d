"""`atoll plan`: decides which sites of a cloud are full sites, and where images are kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atoll.cli.output import data_console, new_table, print_json
from atoll.cli.session import Session
from atoll.cli.verb import Finite, json_option, verb

if TYPE_CHECKING:
    from atoll.experiment.plan.planning import Solved
    from atoll.trace.tree import Trace

_SHOWN = 12
_PERCENT = 100


@verb(
    "plan",
    "atoll plan examples/plans/shops.yaml\natoll plan my-plan.yaml --seconds 60 --output my-cloud.yaml\natoll plan my-plan.yaml --json",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--seconds", type=Finite(min=0.1), default=60, show_default=True, help="Seconds to search; then the best plan found so far is taken."
)
@click.option(
    "--gap",
    type=Finite(min=0, max=100),
    default=0,
    show_default=True,
    help="Stop at a plan that is proven to be at most this many % above the optimum.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write the cloud, for `atoll up FILE`."
)
@click.option("--force", is_flag=True, help="Replace the file of --output if it exists.")
@json_option
@click.pass_obj
def command(session: Session, /, file: Path, output: Path | None, *, force: bool, as_json: bool, **search: float) -> None:
    """Decide which sites are full sites, and which sites keep images.

    The other sites are compute sites, each with a control site. FILE is YAML with sites, round trips, load, budgets, and the costs of
    operations, from a table or from traces. HiGHS chooses the cheapest plan that keeps all bounds. The command also prints the bounds that
    prevent a cheaper plan, and the prices of plans in which one instance is moved.
    """
    from atoll.experiment.plan import planning
    from atoll.experiment.plan.document import read_plan

    plan = read_plan(file)
    if output is not None:
        _check_output(output, file, force=force)
    solved = planning.solve_plan(plan, lambda name: _trace(session, file.parent / name), search["seconds"], search["gap"] / _PERCENT)
    if output is not None:
        _write(output, planning.cloud_file(plan, solved))
        click.echo(f"wrote {output}: `atoll up {output}`", err=True)
    if as_json:
        print_json(planning.to_json(solved))
        return
    _print(solved)


def _check_output(output: Path, plan: Path, *, force: bool) -> None:
    """Check, before the search, that --output does not replace the plan itself or, without `force`, any other file.

    A device or a pipe can be written to without replacing anything.
    """
    from atoll.errors import AtollError

    if not output.is_file():
        return
    if output.samefile(plan):
        raise AtollError("plan.exists", f"{output} is the plan itself: expected another file for the cloud", "give --output another name")
    if not force:
        raise AtollError("plan.exists", f"{output} exists already: expected a new file", "remove it, or replace it: --force")


def _write(output: Path, text: str) -> None:
    """Write a text to a file, whole or not at all, or to a device or pipe; if the path is a link, write to the link's target."""
    from atoll.files import write_private

    if output.exists() and not output.is_file():
        output.write_text(text, encoding="utf-8")
    else:
        write_private(output.resolve(), text)


def _trace(session: Session, path: Path) -> Trace:
    from atoll.site import traces

    return traces.find(session.state, str(path))[0]


def _print(solved: Solved) -> None:
    from atoll.experiment.plan.planning import keep_commands, rate, to_json
    from atoll.experiment.quantities import spell_bytes

    told = to_json(solved)
    full, sites = len(told["full_sites"]), len(told["sites"])
    quality = "optimal" if told["optimal"] else _quality(told["gap"])
    click.echo(f"price {told['price']:.4g} an hour ({quality}, after {told['solver_s']:.1f} s)")
    click.echo(f"{full} instances each of {', '.join(list(told['instances'])[:-1])} with a replica of identity; {sites} of nova-compute")
    click.echo(f"{spell_bytes(told['memory_bytes'])} of memory, {rate(told['wan_bytes_per_hour']):.3g} Mbit/s between sites")
    click.echo()
    data_console().print(_sites(told["sites"]))
    for text in keep_commands(solved):
        click.echo(text)
    click.echo()
    for text in _bindings(solved) or ["no bound prevents a cheaper plan that is one move away"]:
        click.echo(text)
    click.echo()
    table = new_table("MOVE", "PRICE", "BREAKS", numbers=("PRICE",), wrapped=("BREAKS",))
    for move in _cheapest(solved):
        table.add_row(move.text, f"{move.extra_price:+.4g}", ", ".join(f"{each.bound} {each.subject}".strip() for each in move.breaks[:3]))
    data_console().print(table)


def _quality(gap: float | None) -> str:
    return "no bound of the optimum was found in time" if gap is None else f"at most {_PERCENT * gap:.2g} % above the optimum"


def _sites(sites: list[dict[str, Any]]) -> Any:
    from atoll.experiment.plan.planning import rate
    from atoll.experiment.quantities import spell_bytes, spell_seconds

    table = new_table("SITE", "KIND", "CONTROL", "RTT", "IMAGES", "MEMORY", "MBIT/S", "TIMES", numbers=("RTT", "MEMORY", "MBIT/S"))
    for site in sites:
        times = ", ".join(f"{name} {spell_seconds(value)}" for name, value in site["latency_s"].items())
        control = site["control"] or ""
        rtt = spell_seconds(site["rtt_s"]) if control else ""
        traffic = f"{rate(site['wan_bytes_per_hour']):.3g}"
        table.add_row(
            site["name"], site["kind"], control, rtt, ", ".join(site["images"]), spell_bytes(site["memory_bytes"]), traffic, times
        )
    return table


def _bindings(solved: Solved) -> list[str]:
    """Return a line for each kind of bound and each move that it forbids, because the bounds of many sites often forbid the same move."""
    groups: dict[tuple[str, str], list[Any]] = {}
    for each in solved.binding:
        groups.setdefault((each.usage.bound, each.move.text), []).append(each)
    lines = []
    for (bound, text), group in list(groups.items())[:_SHOWN]:
        subjects = [each.usage.subject for each in group if each.usage.subject]
        more = f" and {len(subjects) - 3} more" if len(subjects) > 3 else ""
        where = f" of {', '.join(subjects[:3])}{more}" if subjects else ""
        lines.append(f"`{bound}`{where} binds: it forbids to {text}, {-group[0].move.extra_price:.4g} an hour cheaper")
    if len(groups) > _SHOWN:
        lines.append(f"{len(groups) - _SHOWN} more bounds bind: --json has all")
    return lines


def _cheapest(solved: Solved) -> list[Any]:
    """Return, for each instance, the cheapest move that breaks no bound; if every move breaks one, the cheapest of all."""
    best: dict[str, Any] = {}
    for move in sorted(solved.moves, key=lambda each: (bool(each.breaks), each.extra_price)):
        best.setdefault(move.instance, move)
    return list(best.values())[:_SHOWN]
