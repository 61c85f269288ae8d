"""Run the garbage collection: the field at the first place, and the operator's part in the cloud."""

from __future__ import annotations

import sys
from pathlib import Path

from use_cases import options, page
from use_cases.cloud import Cloud, CloudError, Step
from use_cases.lines import operate
from use_cases.messages import Message
from use_cases.waste.city import bins
from use_cases.waste.field import DAYS
from use_cases.waste.report import Record, render

PLACES = ("depot",)
CUT_AFTER_DAYS = 7
"""Days after which the WAN is cut, which must change nothing."""


class Operator:
    """The part of the scenario that is played in the cloud, and its record."""

    def __init__(self, cloud: Cloud, record: Record, file: Path) -> None:
        self._cloud, self._record, self._file = cloud, record, file
        self._city = bins(record.seed)

    def take(self, step: str, line: Message) -> Message | None:
        """Take a step of the field, and return the answer if the field waits for one."""
        answer: Message | None = None
        if step == "evening":
            self._note(self._cloud.start(PLACES[0]))
            answer = {}
        elif step == "day":
            self._record.days.append(line)
            count = sum(len(route) for route in line["routes"])
            print(f"day {line['day'] + 1}: {count} bins, {line['metres'] / 1000:.1f} km, planned in {line['seconds']} s", flush=True)
            if len(self._record.days) == CUT_AFTER_DAYS:
                self._note(self._cloud.cut(PLACES[0]))
        elif step == "done":
            self._record.outcome = line
        self.show()
        return answer

    def show(self) -> None:
        """Write the page as it is now."""
        page.write(self._file, render(self._record, self._city))

    def prepare(self) -> None:
        """Bring everything into the cloud that the server will need."""
        self._note(self._cloud.prepare())

    def finish(self) -> None:
        """Leave the cloud as it was."""
        self._note(self._cloud.finish())
        self.show()

    def _note(self, steps: list[Step]) -> None:
        for step in steps:
            print(f"  cloud: {step}", flush=True)
        self._record.steps += steps


def play(cloud: Cloud, record: Record, file: Path, days: int) -> None:
    """Run the field, and answer it until it ends.

    Raises:
        CloudError: the cloud failed, or the field ended early.
    """
    operator = Operator(cloud, record, file)
    try:
        operator.prepare()
        words = [sys.executable, "-m", "use_cases.waste.field", str(record.seed), str(days)]
        operate([*cloud.inside(PLACES[0]), *words], operator.take)
    finally:
        operator.finish()


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
