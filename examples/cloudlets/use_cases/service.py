"""Processes that serve until their standard input ends, so that none of them outlives the process that started it."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress


def run(service: Coroutine[None, None, None]) -> None:
    """Run a service until this process's standard input ends; then cancel it, so that it ends its own processes."""

    async def main() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.create_task(service)

        def end() -> None:
            while os.read(0, 4096):
                pass
            with suppress(RuntimeError):  # the service has ended by itself
                loop.call_soon_threadsafe(task.cancel)

        threading.Thread(target=end, daemon=True).start()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(main())


@asynccontextmanager
async def started(module: str, *words: str, stdout: int = asyncio.subprocess.DEVNULL) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a module that serves, and end it.

    Args:
        module: the module's name.
        words: its arguments.
        stdout: its standard output. By default it gets none, so that it cannot keep that of this process open.
    """
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, *words, stdin=asyncio.subprocess.PIPE, stdout=stdout)
    assert process.stdin
    try:
        yield process
    finally:
        process.stdin.close()
        await process.wait()
