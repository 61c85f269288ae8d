"""Run the forest fire: the field at the site of the fire, and the operator's part in the cloud."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from use_cases import options
from use_cases.cloud import Cloud, CloudError
from use_cases.fire.landscape import MASTS, landscape
from use_cases.fire.report import Record, render
from use_cases.messages import Message
from use_cases.operator import Operator

PLACES = tuple(mast.name for mast in MASTS)


class FireOperator(Operator):
    """The operator of the forest fire."""

    def __init__(self, cloud: Cloud, record: Record, file: Path) -> None:
        super().__init__(cloud, record, file)
        self._fire = record
        self._land = landscape(record.seed)
        self._answers: dict[str, Callable[[Message], Message]] = {
            "high": self._high,
            "moved": self._moved,
            "analyse": self._analyse,
        }

    def answer(self, step: str, line: Message) -> Message | None:
        """See `Operator`."""
        if step == "crew":
            self._fire.crew.append((line["x"], line["y"]))
        notes = {"danger": self._fire.days, "alarm": self._fire.alarms, "evacuation": self._fire.zones}
        if step in notes:
            notes[step].append(line)
        _say(step, line)
        return self._answers[step](line) if step in self._answers else None

    def render(self) -> str:
        """See `Operator`."""
        return render(self._fire, self._land)

    def _high(self, _line: Message) -> Message:
        self.note(self.cloud.start(PLACES[0]))
        return {}

    def _moved(self, line: Message) -> Message:
        self.note(self.cloud.move(line["mast"]))
        self.note(self.cloud.cut(line["mast"]))
        return {}

    def _analyse(self, line: Message) -> Message:
        words = [*self.cloud.inside(PLACES[1]), sys.executable, "-m", "use_cases.fire.analysis"]
        done = subprocess.run(words, input=json.dumps(line), capture_output=True, text=True, check=True)
        self._fire.analysis = json.loads(done.stdout)
        print(f"  analysis: {self._fire.analysis['members']} simulations in {self._fire.analysis['seconds']} s", flush=True)
        return self._fire.analysis


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
    words = [sys.executable, "-m", "use_cases.fire.field", str(record.seed)]
    FireOperator(cloud, record, file).play(lambda here: [*here.inside(PLACES[1]), *words])


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
