"""The data card of an exported run: subject, method and limits, files with their columns, and licence."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from datetime import datetime

from atoll.experiment.run import Run

_CARD = """\
# {name}

{subject}

Measurements by Atoll {atoll}, run `{run}`, begun {begun}, seed {seed}. {done} of {cells} cells are complete, {failed} failed.

- **Authors**: to be named by the publisher.
- **Licence**: [Creative Commons Attribution 4.0 International](https://creativecommons.org/licenses/by/4.0/) (CC BY 4.0, \
SPDX `CC-BY-4.0`), unless the publisher states another one.
- **Repetition**: `run.json` has every cell with the document of its cloud; `atoll experiment replay DIRECTORY` repeats the run.

## Method and limits

- Each combination of factors is a cell: a cloud of its own, whose workload is measured. Cells ran in random order by the seed.
- {idle}
- {where}
- Unless `run.json` says otherwise, sites have OpenStack's fake hypervisor: there are no guests, so a boot is the work of the control plane.
- Texts of errors are as the programs gave them, and may contain names and paths of the machine: read them before you publish the data.

## Machine

{machine}

## Files

All times are in seconds. Times of samples, faults, `usage.csv` and `traffic.csv` count from the start of the measured operations of their
cell, and are negative before it. Times of readings of the machine's load count from the start of the cell.

An empty field means that there is no value.

| File | A line for each | Columns |
| --- | --- | --- |
| `operations.csv` | operation and combination of factors | factors, `database` and `flush` (see below), `operation`, \
`users` (`full`, `compute` or `all` sites), \
number of `cells`, of `served` and of `failed` operations, the 95 % interval of the served share (`served_low`, `served_high`, \
from 0 to 1, Wilson), the median latency with its 95 % interval (`median_s`, `median_low_s`, `median_high_s`; by ranks, widened by the \
variance between cells), `p95_s`, `longest_s` |
| `cells.csv` | cell | `cell`, `repetition`, `state`, factors, `database`, `flush`, `seed`, \
`up_s` (start of the cloud), `seconds` (whole cell), `memory_mb` \
(all processes after the workload, 10^6 bytes), `idle_share` (of the machine, from 0 to 1), number of `samples`, `sampled_every_s` \
(seconds between two readings in `usage.csv` and `traffic.csv`), `sampler_share` (processor time of their sampler, share of one core), \
`error` |
| `samples.csv` | operation | `cell`, `operation`, `site` of the user, `intended_s`, `started_s`, `ended_s`, `ok`, `error`, `database` |
| `machine.csv` | reading of the machine's load | `cell`, `at_s`, `idle` (from 0 to 1), `available_mb` (10^6 bytes) |
| `usage.csv` | reading of a site's processes | `cell`, `at_s`, `site` (`shared`: processes that serve all sites), `cpu_s` \
(processor seconds since the first reading), number of `processes`, `memory_mb` \
(proportional set size, 10^6 bytes; empty in most readings) |
| `traffic.csv` | reading of the counters of a direction of a link | `cell`, `at_s`, `source`, `target`, `packets`, `bytes` and `dropped` \
(IP packets that the source sent, their bytes, and those that did not arrive; since the first reading) |
| `links.csv` | direction of a link of a cell | `cell`, `source`, `target`, `packets`, `bytes`, `dropped` during the measured operations |
| `values.csv` | measured number that is not a latency | `cell`, `name`, `unit`, `value` |
| `faults.csv` | fault (only with faults) | `cell`, `number`, `kind`, `target`, `cause`, `started_s` (of the injection), `effective_s`, \
`undone_s` (start of the undoing), `ended_s`, `error` |
| `phases.csv` | operation, users and phase (only with faults) | `factors`, `operation`, `users` (`concerned` by a fault or `elsewhere`), \
`phase`, number of `operations`, `served` with its 95 % interval, `median_s` |
| `experiment.yaml` | | the file of the experiment, if it is known |
| `parquet/` | | the same samples, readings, numbers and faults, a file for each cell, with all metadata under the key `atoll` |

`database` is the engine of the services' databases at the full sites. `flush` is the setting by
which that engine flushes commits to the disk, as the running server reported it:

{databases}

Factors, whose columns are called `factor_NAME`: {factors}.
"""


def _databases(run: Run) -> Iterator[str]:
    """Yield a line for each database of the run's finished cells, with the setting by which it flushes commits."""
    states = run.states()
    found = {(cell.database, str(states[cell.id].facts.get("flush") or "unknown")) for cell in run.cells if states[cell.id].state == "done"}
    for database, flush in sorted(found):
        yield f"- {database}: {flush}"


def _subject(run: Run) -> str:
    """Return the comment at the head of the experiment's file; a sentence in its place if there is none."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), run.document.splitlines())
    text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines).strip()
    return f"```text\n{text}\n```" if text else "An experiment with emulated OpenStack clouds."


def _idle(run: Run) -> str:
    """Return a sentence about the load of the machine while the run's finished cells ran."""
    shares = [state.facts["idle_share"] for state in run.states().values() if state.facts.get("idle_share") is not None]
    if not shares:
        return "The idle share of the machine is not known."
    low, high = 100 * min(shares), 100 * max(shares)
    share = f"{low:.0f} %" if round(low) == round(high) else f"{low:.0f} to {high:.0f} %"
    return f"The machine was idle for {share} of the time of a cell. The less it was idle, the more operations waited for processors."


_EMULATED = "All sites ran on one machine, each in a network of its own; the links between them were emulated."
_HOSTS = "Sites ran on hosts of a testbed that EnOSlib reserved. The properties of the machine below are those of the clients' machine."


def data_card(run: Run, factors: Sequence[str]) -> str:
    """Return the data card as Markdown.

    Args:
        run: the run.
        factors: the names of all factors.
    """
    states = [state.state for state in run.states().values()]
    machine = dict(run.about.get("machine") or {})
    packages = machine.pop("packages", {})
    lines = [f"- {name}: {value}" for name, value in (*machine.items(), *packages.items())]
    return _CARD.format(
        name=run.about["name"],
        atoll=machine.get("atoll", ""),
        run=run.name,
        begun=f"{datetime.fromisoformat(run.about['begun']):%Y-%m-%d %H:%M %Z}",
        subject=_subject(run),
        idle=_idle(run),
        where=_HOSTS if "provider" in run.about else _EMULATED,
        seed=run.about["seed"],
        done=states.count("done"),
        cells=len(states),
        failed=states.count("failed"),
        machine="\n".join(lines) or "unknown",
        databases="\n".join(_databases(run)),
        factors=", ".join(f"`{name}`" for name in factors),
    )
