"""Run the garbage collection: the field at the first place, and the operator's part in the cloud."""

from __future__ import annotations

import sys
from pathlib import Path

from use_cases import options
from use_cases.cloud import Cloud, CloudError
from use_cases.messages import Message
from use_cases.operator import Operator
from use_cases.waste.city import bins
from use_cases.waste.field import DAYS
from use_cases.waste.report import Record, render

PLACES = ("depot",)
CUT_AFTER_DAYS = 7
"""Days after which the WAN is cut, which must change nothing."""


class WasteOperator(Operator):
    """The operator of the garbage collection."""

    def __init__(self, cloud: Cloud, record: Record, file: Path) -> None:
        super().__init__(cloud, record, file)
        self._waste = record
        self._city = bins(record.seed)

    def answer(self, step: str, line: Message) -> Message | None:
        """See `Operator`."""
        if step == "evening":
            self.note(self.cloud.start(PLACES[0]))
            return {}
        if step == "day":
            self._waste.days.append(line)
            count = sum(len(route) for route in line["routes"])
            print(f"day {line['day'] + 1}: {count} bins, {line['metres'] / 1000:.1f} km, planned in {line['seconds']} s", flush=True)
            if len(self._waste.days) == CUT_AFTER_DAYS:
                self.note(self.cloud.cut(PLACES[0]))
        elif step == "done":
            self._waste.outcome = line
        return None

    def render(self) -> str:
        """See `Operator`."""
        return render(self._waste, self._city)


def play(cloud: Cloud, record: Record, file: Path, days: int) -> None:
    """Run the field, and answer it until it ends.

    Raises:
        CloudError: the cloud failed, or the field ended early.
    """
    words = [sys.executable, "-m", "use_cases.waste.field", str(record.seed), str(days)]
    WasteOperator(cloud, record, file).play(lambda here: [*here.inside(PLACES[0]), *words])


def main() -> int:
    """Run the command line, and return its exit code: 1 also if a plan was too late."""
    reader = options.parser("garbage-collection", "Garbage collection, from the bins' fill levels to each morning's routes.", PLACES)
    reader.add_argument("--days", type=int, default=DAYS, metavar="N", help="the days to simulate (default: %(default)s)")
    chosen = reader.parse_args()
    try:
        cloud = options.chosen(chosen, PLACES, "garbage-collection-planner")
        record = Record(chosen.seed, cloud.title, cloud.computing)
        print(record.title, flush=True)
        play(cloud, record, chosen.page, chosen.days)
    except CloudError as error:
        return options.failed(error)
    return options.ended(chosen, record.late())


if __name__ == "__main__":
    sys.exit(main())
