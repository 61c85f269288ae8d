"""A recorder that keeps its spans, and the libraries whose calls it records."""

import importlib
from collections.abc import Callable, Iterator

import native_threads
import pytest

from atoll.trace import hooks, process, sampling, store
from atoll.trace.recorder import Identity, Recorder

native_threads.load()
importlib.import_module("oslo_service.periodic_task")
importlib.import_module("oslo_service.loopingcall")
importlib.import_module("futurist")  # its executors are recorded if it was imported


class Recording:
    """A recorder with a store."""

    def __init__(self, made: Recorder, path) -> None:
        self.recorder, self.path = made, path

    def spans(self) -> list[store.Span]:
        """Return what was recorded, in the order in which it began."""
        assert self.recorder.provider.force_flush(), "the store is not written"
        return store.spans(self.path, [each.trace for each in store.summaries(self.path, 1000)])


@pytest.fixture
def record(tmp_path) -> Iterator[Callable[..., Recording]]:
    made: list[Recorder] = []

    def record_(sample: float = 0.0, service: str = "nova", **options: object) -> Recording:
        options = {"sample": sample, "size_mb": 8, "endpoint": ""} | options
        made.append(process.start(Identity(service, "paris", "cloud"), options, tmp_path))
        hooks.install()
        return Recording(made[-1], tmp_path / store.FILE)

    yield record_
    for each in made:
        process.stop(each)
    sampling.install(None)
