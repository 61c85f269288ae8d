"""The report's section about the shapes that the experiment expects of its results."""

from __future__ import annotations

from collections.abc import Iterator

from atoll.experiment import summary
from atoll.experiment.markup import table
from atoll.experiment.run import Run
from atoll.experiment.shapes import Shape
from atoll.experiment.verdicts import Verdict, verdicts

_WORDS = {True: "holds", False: "does not hold", None: "not measured"}


def judged(run: Run) -> list[Verdict]:
    """Return the verdicts on all shapes that a run expects; none in runs of older versions."""
    expected = [Shape.model_validate(each) for each in run.about.get("expect", ())]
    return verdicts(expected, list(summary.groups(run).values())) if expected else []


def expected_shapes(run: Run) -> Iterator[str]:
    """Yield the HTML with the verdicts; nothing if the experiment expects no shape."""
    found = judged(run)
    if not found:
        return
    yield "<h2>Expected shapes</h2>"
    broken = sum(verdict.holds is False for verdict in found)
    verb = "does" if broken == 1 else "do"
    yield f'<p class="bad">{broken} of {len(found)} compared lines {verb} not have the shape.</p>' if broken else ""
    rows = [[verdict.shape.told, verdict.line, verdict.measured, _WORDS[verdict.holds]] for verdict in found]
    yield table(("Shape of the median", "Line", "Measured", "Verdict"), rows)
