"""Three sites for tests of CAMARA's APIs; each answer is checked against the contract of its operation."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from camara_contract import ANSWERS, check
from gateway_cloud import Cloud

from atoll.gateway.door.limits import Limits

ROLE = "edge-application"
SERVES = {"10.1.0.0/16": "metz", "10.2.0.0/16": "pau", "2001:db8::/32": "pau", "10.9.0.0/16": "gone"}
SITES = ("brest", "metz", "pau")

OWN, APPLICATION = {"X-Auth-Token": "member"}, {"Authorization": "Bearer application"}

Ask = Callable[..., Awaitable[tuple[int, Any, dict[str, str]]]]


def ipv4(address: str) -> dict[str, Any]:
    return {"device": {"ipv4Address": {"publicAddress": address, "privateAddress": address}}}


def run(
    directory: Path,
    root: str,
    test: Callable[[Cloud, Ask], Awaitable[None]],
    *,
    limits: Limits | None = None,
    prepare: Callable[[Cloud], None] = lambda _cloud: None,
) -> None:
    """Run a test against sites with the rules of discovery above.

    Args:
        directory: a directory for the sites' files.
        root: the path of the API, `/NAME/VERSION`.
        test: the test; it gets the cloud, and a function that sends a request for a path below `root`, and returns the status, the body
            and the headers of the answer.
        limits: the limits of clients.
        prepare: changes the sites before they start.
    """

    async def main() -> None:
        cloud = Cloud(directory, *SITES)
        for name in SITES:
            site = cloud[name]
            site.options = replace(site.options, discovery={"role": ROLE, "serves": SERVES})
            site.limits = limits or site.limits
            site.services.people |= {
                "member": ("p1", ("member",)),
                "other": ("p3", ("member",)),
                "application": ("p2", ("member", ROLE)),
                "unscoped": ("", ()),
            }
            site.mesh.rtts_ms = {frozenset(("brest", "metz")): 9.0, frozenset(("brest", "pau")): 5.0, frozenset(("metz", "pau")): 2.0}
        prepare(cloud)
        async with cloud:

            async def ask(method: str, path: str, body: Any = None, site: str = "brest", **more: Any) -> Any:
                more.setdefault("headers", OWN)
                if body is not None:
                    more["json"] = body
                status, answer, headers = await cloud.ask(site, method, root + path, **more)
                check(_operation(root, method, path), status, answer, headers)
                return status, answer, headers

            await test(cloud, ask)

    asyncio.run(main())


def _operation(root: str, method: str, path: str) -> tuple[str, str, str]:
    """Return the operation of a path; a wrong path or method counts as the first operation of the API, which has the same errors."""
    api = root.split("/")[1]
    plain = path.partition("?")[0]
    known = [operation for operation in ANSWERS if operation[0] == api]
    for operation in known:
        if operation[1] == method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", operation[2]), plain):
            return operation
    return known[0]
