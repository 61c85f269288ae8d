"""The report's section about failed operations: how many failed for which reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from atoll.experiment.markup import table
from atoll.experiment.run import Run
from atoll.experiment.summary import short_names

_MOST_REASONS, _LONGEST = 20, 200
"""Greatest number of reasons that the page shows, and the greatest number of characters of each; `samples.csv` has all of them."""


def failures(run: Run) -> Iterator[str]:
    """Yield the HTML with the most frequent reasons; nothing if no operation failed."""
    states = run.states()
    done = [cell for cell in run.cells if states[cell.id].state == "done"]
    names = short_names(done)
    found = Counter(
        (sample.operation, names[cell.label], sample.site, sample.error[:_LONGEST].removesuffix(": "))
        for cell in done
        for sample in run.samples(cell)
        if not sample.ok
    )
    if not found:
        return
    yield "<h2>Failed operations</h2>"
    if len(found) > _MOST_REASONS:
        yield f"<p>The {_MOST_REASONS} most frequent of {len(found)} reasons:</p>"
    rows = [[operation, name, site, str(count), error] for (operation, name, site, error), count in found.most_common(_MOST_REASONS)]
    yield table(("Operation", "Combination", "Site of the user", "#Failed", "Reason"), rows)
