"""oslo.messaging's own functional tests from its wheel, with `zenoh://` for a URL.

`python functional.py DIRECTORY SHARDS` runs them in that many processes at once, since they mostly wait. Each process writes the results of
its share into a file there, one JSON object a line. The tests are unittest's, and testscenarios creates some when they are loaded: pytest
would not find all.
"""

import importlib
import json
import os
import sys
import traceback
import unittest
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

MODULES = ("oslo_messaging.tests.functional.test_functional", "oslo_messaging.tests.functional.notify.test_logger")
EXCLUDED = {
    "oslo_messaging.tests.functional.test_functional.CallTestCase.test_mandatory_call": (
        "for rabbit:// only, skips itself: wants MessageUndeliverable, AMQP's name of what is NobodyListens here, with and without the flag"
    ),
    "oslo_messaging.tests.functional.test_functional.MetricsTestCase.test_functional": (
        "tests oslo.metrics, not the driver: starts its collector at a port that is always 3000, and gives it a second to start"
    ),
}
"""The tests that don't run, with the reasons; docs/bus.md names them too. Those of RabbitMQ alone (test_rabbitmq.py) are not loaded."""


class Url(str):
    """A URL that passes for rabbit:// where a test asks whether the back end monitors calls: this one does."""

    __slots__ = ()

    def startswith(self, prefix: Any, *arguments: Any) -> bool:
        return prefix == "rabbit://" or super().startswith(prefix, *arguments)


def tests(suite: Any) -> Iterator[Any]:
    if isinstance(suite, unittest.TestSuite):
        for part in suite:
            yield from tests(part)
    else:
        yield suite


def load() -> list[Any]:
    """Return all tests, always in the same order."""
    loader = unittest.TestLoader()
    suites = [loader.loadTestsFromModule(importlib.import_module(name)) for name in MODULES]
    return sorted((test for suite in suites for test in tests(suite)), key=lambda test: test.id())


class Result(unittest.TestResult):
    """A result that writes the outcome of each test into a file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("w", buffering=1)

    def say(self, test: Any, outcome: str, why: str = "") -> None:
        self._file.write(json.dumps({"test": test.id(), "outcome": outcome, "why": why}) + "\n")

    def addSuccess(self, test: Any) -> None:
        self.say(test, "passed")

    def addSkip(self, test: Any, reason: str) -> None:
        self.say(test, "skipped", reason)

    def addError(self, test: Any, error: Any) -> None:
        self.say(test, "failed", "".join(traceback.format_exception(*error)))

    addFailure = addError


def run(share: list[Any], path: Path) -> None:
    result = Result(path)
    for test in share:
        if test.id() in EXCLUDED:
            result.say(test, "excluded")
        else:
            test.run(result)


def pretend() -> None:
    """Enable the test of heartbeats."""
    from oslo_messaging.tests.functional import utils

    prepare = utils.SkipIfNoTransportURL.setUp

    def prepare_with_url(test: Any, *arguments: Any, **given: Any) -> None:
        prepare(test, *arguments, **given)
        if test.id().endswith("test_monitor_long_call"):
            test.rpc_url = Url(test.rpc_url)

    utils.SkipIfNoTransportURL.setUp = prepare_with_url


def main() -> None:
    directory, shards = Path(sys.argv[1]), int(sys.argv[2])
    pretend()
    all_tests = load()
    for shard in range(shards):
        if os.fork() == 0:
            run(all_tests[shard::shards], directory / f"{shard}.json")
            os._exit(0)
    for _ in range(shards):
        os.wait()


if __name__ == "__main__":
    main()
