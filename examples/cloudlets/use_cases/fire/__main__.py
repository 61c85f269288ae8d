"""Run the forest fire: the field at the site of the fire, and the operator's part in the cloud."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from use_cases import options, page
from use_cases.cloud import Cloud, CloudError, Step
from use_cases.fire.landscape import MASTS, landscape
from use_cases.fire.report import Record, render
from use_cases.lines import operate
from use_cases.messages import Message

PLACES = tuple(mast.name for mast in MASTS)


class Operator:
    """The part of the scenario that is played in the cloud, and its record."""

    def __init__(self, cloud: Cloud, record: Record, file: Path) -> None:
        self._cloud, self._record, self._file = cloud, record, file
        self._land = landscape(record.seed)
        self._answers: dict[str, Callable[[Message], Message]] = {
            "high": self._high,
            "moved": self._moved,
            "analyse": self._analyse,
        }

    def take(self, step: str, line: Message) -> Message | None:
        """Take a step of the field, and return the answer if the field waits for one."""
        if step == "crew":
            self._record.crew.append((line["x"], line["y"]))
        notes = {"danger": self._record.days, "alarm": self._record.alarms, "evacuation": self._record.zones}
        if step in notes:
            notes[step].append(line)
        _say(step, line)
        answer = self._answers[step](line) if step in self._answers else None
        self.show()
        return answer

    def show(self) -> None:
        """Write the page as it is now."""
        page.write(self._file, render(self._record, self._land))

    def prepare(self) -> None:
        """Bring everything into the cloud that a server will need."""
        self._note(self._cloud.prepare())

    def finish(self) -> None:
        """Leave the cloud as it was."""
        self._note(self._cloud.finish())
        self.show()

    def _note(self, steps: list[Step]) -> None:
        for step in steps:
            print(f"  cloud: {step}", flush=True)
        self._record.steps += steps

    def _high(self, _line: Message) -> Message:
        self._note(self._cloud.start(PLACES[0]))
        return {}

    def _moved(self, line: Message) -> Message:
        self._note(self._cloud.move(line["mast"]))
        self._note(self._cloud.cut(line["mast"]))
        return {}

    def _analyse(self, line: Message) -> Message:
        words = [*self._cloud.inside(PLACES[1]), sys.executable, "-m", "use_cases.fire.analysis"]
        done = subprocess.run(words, input=json.dumps(line), capture_output=True, text=True, check=True)
        self._record.analysis = json.loads(done.stdout)
        print(f"  analysis: {self._record.analysis['members']} simulations in {self._record.analysis['seconds']} s", flush=True)
        return self._record.analysis


def _say(step: str, line: Message) -> None:
    """Print a step of the field in a line, if it is one to read."""
    told = {
        "danger": "day {day}: Fire Weather Index {fwi}, {class}",
        "high": "the danger is high: the analysis is needed",
        "moved": "the crew has moved to the mast {mast}",
        "alarm": "{event}: alarm after {seconds} s, near {nearest}",
        "evacuation": "{event}: {area_ha} ha to evacuate after {seconds} s, villages {places}",
    }.get(step)
    if told:
        print(told.format(**line), flush=True)


def play(cloud: Cloud, record: Record, file: Path) -> None:
    """Run the field, and answer it until it ends.

    Raises:
        CloudError: the cloud failed, or the field ended early.
    """
    operator = Operator(cloud, record, file)
    try:
        operator.prepare()
        operate([*cloud.inside(PLACES[1]), sys.executable, "-m", "use_cases.fire.field", str(record.seed)], operator.take)
    finally:
        operator.finish()


def main() -> int:
    """Run the command line, and return its exit code: 1 also if an alarm or a polygon was too late."""
    reader = options.parser("forest-fire", "A forest fire, from the danger of the day to the evacuation.", PLACES)
    chosen = reader.parse_args()
    try:
        cloud = options.chosen(chosen, PLACES, "forest-fire-analysis")
        record = Record(chosen.seed, cloud.title, cloud.computing)
        print(record.title, flush=True)
        play(cloud, record, chosen.page)
    except CloudError as error:
        return options.failed(error)
    return options.ended(chosen, record.late())


if __name__ == "__main__":
    sys.exit(main())
