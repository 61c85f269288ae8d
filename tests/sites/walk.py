"""A page's commands: read from its blocks, run in one shell, their output compared with what the page shows.

Blocks are fenced, and their info string says what to do with them:

    console         commands after `$ `, continued after `> `; the lines below a command are its output. Each command must succeed.
    console fails   the same, but each command must fail.
    console until   the same, but each command is repeated until its output is the one shown, for four minutes at most.
    yaml NAME       a file of this name, written where the shell is.

All other blocks are for the reader alone. A command without output in the page may write anything. Otherwise all of its output must be
in the page, with three exceptions: `…` stands for any text in a line, also for none; a line with nothing but `…` stands for any number
of lines; the width of a table's columns and blank lines do not count.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from markdown_it import MarkdownIt

PATIENCE_S = 240.0
"""Seconds during which a command of an `until` block is repeated."""

MODES = ("", "fails", "until")


@dataclass(frozen=True)
class Command:
    """A command, and its output as the page shows it.

    Attributes:
        line: of the page, counted from 1.
        text: what the shell runs; may have several lines.
        shown: lines of output; empty if the page shows none.
        mode: the second word of the info string, one of `MODES`.
    """

    line: int
    text: str
    shown: tuple[str, ...]
    mode: str = ""


@dataclass(frozen=True)
class File:
    """A file that the page gives in full."""

    name: str
    text: str


def read_steps(page: str) -> Iterator[Command | File]:
    """Return the steps of a page in their order.

    Raises:
        ValueError: a block has an unknown mode, or output before its first command.
    """
    for token in MarkdownIt().parse(page):
        kind, _space, rest = token.info.strip().partition(" ")
        if token.type != "fence" or token.map is None:
            continue
        if kind == "yaml" and rest:
            yield File(rest, token.content)
        elif kind == "console":
            if rest not in MODES:
                raise ValueError(f"line {token.map[0] + 1}: a console block may be one of {MODES}, not {rest!r}")
            yield from _commands(token.content.splitlines(), token.map[0] + 2, rest)


def _commands(lines: list[str], first: int, mode: str) -> Iterator[Command]:
    starts = [number for number, line in enumerate(lines) if line.startswith("$ ")]
    if not starts or starts[0] != 0:
        raise ValueError(f"line {first}: a console block begins with a command, `$ …`")
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        below = start + 1
        while below < end and lines[below].startswith("> "):
            below += 1
        text = "\n".join(line[2:] for line in lines[start:below])
        yield Command(first + start, text, tuple(lines[below:end]), mode)


def matches(shown: tuple[str, ...], output: str) -> bool:
    """Compare the output of a command with what a page shows, by the rule above."""
    if not shown:
        return True
    pattern = "".join(map(_pattern, _plain("\n".join(shown))))
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in _plain(output))) is not None


def _pattern(line: str) -> str:
    if line == "…":
        return r"(?:.*\n)*?"
    # A column may be empty.
    return re.escape(line).replace(r"\ …\ ", r"\ (?:.*\ )?").replace("…", ".*") + r"\n"


def _plain(text: str) -> list[str]:
    lines = (re.sub(r"\s+", " ", re.sub(r"-{2,}", "--", line)).strip() for line in text.splitlines())
    return [line for line in lines if line]


class Shell:
    """A bash that keeps its variables and its directory between commands."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        pipe = subprocess.PIPE
        self._bash = subprocess.Popen(
            ["bash", "--norc"], stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True, cwd=directory, env=dict(environment)
        )
        self.directory = directory

    def run(self, text: str) -> tuple[int, str]:
        """Run a command in the shell.

        Returns:
            Its exit code, and its output with its errors, as a terminal shows them.
        """
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        end = uuid4().hex
        self._bash.stdin.write(f"{{\n{text}\n}} </dev/null\nprintf '\\n{end} %s\\n' $?\n")
        self._bash.stdin.flush()
        output = []
        for line in self._bash.stdout:
            if line.startswith(end):
                return int(line.split()[1]), "".join(output)
            output.append(line)
        raise AssertionError(f"the shell ended in: {text}\n{''.join(output)}")

    def close(self) -> None:
        """End the shell; what it started in the background goes on."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.close()
        self._bash.wait()
        self._bash.stdout.close()


def walk(page: Path, shell: Shell) -> None:
    """Do a page's steps in a shell.

    Raises:
        AssertionError: a command did not end as the page says, or wrote something else.
    """
    for step in read_steps(page.read_text(encoding="utf-8")):
        if isinstance(step, File):
            (shell.directory / step.name).write_text(step.text, encoding="utf-8")
            continue
        deadline = time.monotonic() + PATIENCE_S
        while True:
            code, output = shell.run(step.text)
            done = (code != 0) == (step.mode == "fails") and matches(step.shown, output)
            if done or step.mode != "until" or time.monotonic() > deadline:
                break
        shown = "\n".join(step.shown)
        assert done, f"{page.name}:{step.line}: $ {step.text}\nexit code {code}, output:\n{output}\nthe page shows:\n{shown}"
