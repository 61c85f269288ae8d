"""Run Tempest's tests against one site, and fail unless each test passes or is excluded with a reason.

`.tempest`, or the directory in ATOLL_TEMPEST, keeps everything until the next run: tempest.conf, Tempest's output and log, the sites
with their services' logs.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Sequence

from exclusions import complaints, read_exclusions
from running import LOGS, WORK, listed, running, start_tempest
from suites import SUITES, Suite, lines

from atoll.cli.bench_database import PLACES

OUTPUT = WORK / "output.txt"
RESULT = re.compile(r"^\{\d+\} (.+?)(?: \[[\d.]+s\])? \.\.\. (ok|FAILED|SKIPPED.*)$")
SUSPICIOUS = re.compile(r"database is locked|wait for itself|Unexpected API Error|Internal Server Error", re.IGNORECASE)
"""Messages that no service's log may contain, even if all tests pass."""


def main() -> int:
    """Run the chosen suite and print the problems; return 0 without problems."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite", nargs="?", choices=SUITES, default="api", help="what is run, and against which kind of site")
    parser.add_argument("--smoke", action="store_true", help="only the tests of smoke.txt")
    parser.add_argument("--regex", help="only tests that match")
    parser.add_argument("--concurrency", type=int, default=2, help="tests at once")
    parser.add_argument("--database", choices=PLACES, default=PLACES[0], help="place of the tested site's databases")
    wanted = parser.parse_args()
    suite = SUITES[wanted.suite]()
    began = time.monotonic()
    with running(suite, wanted.database):
        found = [*list_problems(suite), *run_problems(suite, selection(suite, wanted), wanted.concurrency), *log_problems()]
    for problem in found:
        print(problem)
    print(f"{len(found)} problems, {time.monotonic() - began:.0f} s; {OUTPUT} has the output, {LOGS} the logs")
    return 1 if found else 0


def selection(suite: Suite, wanted: argparse.Namespace) -> list[str]:
    """Return the arguments of `tempest run` that select the tests."""
    # An include list would extend a regular expression, not narrow it.
    chosen = lines("smoke.txt") if wanted.smoke else suite.tests
    return ["--regex", wanted.regex or "|".join(chosen), "--exclude-list", str(suite.exclusions)]


def list_problems(suite: Suite) -> list[str]:
    """Return the errors of the list of excluded tests."""
    tests = listed(suite, "--regex", "|".join(suite.tests))
    return complaints(read_exclusions(suite.exclusions), tests, suite.excluded)


def run_problems(suite: Suite, chosen: Sequence[str], concurrency: int) -> list[str]:
    """Run Tempest, and return the problems; each selected test must pass."""
    selected = listed(suite, *chosen)
    print(f"{len(selected)} tests", flush=True)
    (WORK / "tempest.log").unlink(missing_ok=True)
    passed, others = set(), []
    with start_tempest(suite, *chosen, "--concurrency", str(concurrency)) as process, OUTPUT.open("w", buffering=1) as output:
        for line in process.stdout or ():
            output.write(line)
            result = RESULT.match(line)
            if result and result[2] == "ok":
                passed.add(result[1])
                if len(passed) % 100 == 0:
                    print(f"{len(passed)} passed", flush=True)
            elif result:
                others.append(f"{result[1]}: {result[2]}")
                print(others[-1], flush=True)
    missing = [f"{name}: did not pass" for name in selected if name not in passed and not any(name in other for other in others)]
    print(f"{len(passed)} of {len(selected)} passed", flush=True)
    return missing + [f"{len(others)} tests failed or were skipped"] * bool(others)


def log_problems() -> list[str]:
    """Return the suspicious lines of the services' logs."""
    found = []
    for log in sorted(LOGS.glob("*.log")):
        suspicious = [line.strip() for line in log.read_text(errors="replace").splitlines() if SUSPICIOUS.search(line)]
        found += [f"{log.name}: {line}" for line in suspicious[:5]]
    return found


if __name__ == "__main__":
    sys.exit(main())
