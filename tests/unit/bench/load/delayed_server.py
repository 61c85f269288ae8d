"""A server in a process of its own that answers after the delay in the path: /MILLISECONDS; /stall/MILLISECONDS blocks all answers.

The answer's header `X-Took` has the seconds that the server really took. The first line of the output is the port.
"""

import asyncio
import sys
import time

from aiohttp import web


async def delayed(request):
    begun = time.monotonic()
    await asyncio.sleep(int(request.match_info["ms"]) / 1000)
    took = time.monotonic() - begun
    status = int(request.query.get("status", 200))
    return web.Response(status=status, text="x" * 100, headers={"X-Took": str(took), "X-Peer": request.remote or ""})


async def stalled(request):
    time.sleep(int(request.match_info["ms"]) / 1000)  # as a garbage collection or a disk would
    return web.Response(text="stalled")


async def main():
    app = web.Application()
    app.add_routes([web.get("/{ms:\\d+}", delayed), web.post("/{ms:\\d+}", delayed), web.get("/stall/{ms}", stalled)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    sys.stdout.write(f"{site._server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


asyncio.run(main())
