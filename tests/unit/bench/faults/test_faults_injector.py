"""The injector of faults: what it began is undone before its context ends, whatever ends it."""

import threading
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest

from atoll.bench.faults import experiment as module
from atoll.bench.faults.experiment import FaultInjector
from atoll.bench.faults.fault import Fault

NOW = Fault(0.0, "kill_site", ("paris",), 60.0)
LATER = Fault(3600.0, "kill_site", ("lyon",), 1.0)


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_faults_are_undone_before_the_context_ends(monkeypatch, error):
    begun, undone = threading.Event(), []

    class Kind:
        @staticmethod
        def inject(_cloud, fault, wait):
            begun.set()
            wait(60)
            undone.append(fault)

    monkeypatch.setattr(module, "SERVER_KINDS", {"kill_site": Kind})
    plan = SimpleNamespace(faults=[NOW, LATER])
    with suppress(KeyboardInterrupt), FaultInjector(SimpleNamespace(), plan, lambda _line: None) as injector:
        injector.begin(time.monotonic())
        assert begun.wait(60)
        assert undone == []
        if error:
            raise error
    assert undone == [NOW]
