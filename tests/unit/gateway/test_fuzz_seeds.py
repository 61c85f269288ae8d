"""The targets of `make fuzz` still fit what they fuzz: each takes the inputs from which its fuzzing begins."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FUZZ = Path(__file__).parents[2] / "fuzz"


def test_each_target_takes_its_seeds() -> None:
    makefile = (FUZZ.parents[1] / "Makefile").read_text()
    (line,) = (line for line in makefile.splitlines() if line.startswith("FUZZED := "))
    names = line.removeprefix("FUZZED := ").split()
    ran = subprocess.run([sys.executable, str(FUZZ / "targets.py"), *names], capture_output=True, text=True, check=False, timeout=120)
    assert (ran.stdout.split(), ran.returncode) == (names, 0), ran.stderr
