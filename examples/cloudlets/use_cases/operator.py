"""The operator of a use case: the part of the scenario that is played in the cloud, and its record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from use_cases import page
from use_cases.cloud import Cloud, Step
from use_cases.lines import operate
from use_cases.messages import Message


class Record(Protocol):
    """The record of a use case, from which its page is made."""

    steps: list[Step]
    """What the cloud did."""


class Operator:
    """Takes the steps of a field, has the cloud act, and writes the page after each step.

    Args:
        cloud: the cloud.
        record: the record.
        file: the page.
    """

    def __init__(self, cloud: Cloud, record: Record, file: Path) -> None:
        self.cloud = cloud
        self._record, self._file = record, file

    def take(self, step: str, line: Message) -> Message | None:
        """Take a step of the field, and return the answer if the field waits for one."""
        answer = self.answer(step, line)
        self.show()
        return answer

    def answer(self, step: str, line: Message) -> Message | None:
        """Act on a step of the field, and return the answer if the field waits for one."""
        raise NotImplementedError

    def render(self) -> str:
        """Return the page as it is now."""
        raise NotImplementedError

    def show(self) -> None:
        """Write the page as it is now."""
        page.write(self._file, self.render())

    def note(self, steps: Sequence[Step]) -> None:
        """Print and record what the cloud did."""
        for step in steps:
            print(f"  cloud: {step}", flush=True)
        self._record.steps += steps

    def play(self, words: Callable[[Cloud], list[str]]) -> None:
        """Run the field between the preparation of the cloud and its end, and answer the field's steps.

        Args:
            words: returns the command of the field.

        Raises:
            CloudError: the cloud failed, or the field ended early.
        """
        try:
            self.note(self.cloud.prepare())
            operate(words(self.cloud), self.take)
        finally:
            self.note(self.cloud.finish())
            self.show()
