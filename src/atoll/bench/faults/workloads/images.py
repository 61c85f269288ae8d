"""Operations on images: create, upload, delete."""

from __future__ import annotations

import hashlib
from random import Random
from typing import Any

from atoll.bench.api import Answer
from atoll.bench.faults.operation import ClientModel, Operation, Request, Session, Workload

HOLD = 4
"""Greatest number of images that one client keeps."""


def _draw(random: Random, model: ClientModel) -> tuple[str, str, dict[str, Any]]:
    live, empty = model.live("image"), model.live("empty-image")
    if empty:
        return "image.upload", empty.pop(), {"seed": random.getrandbits(32), "size": random.randrange(1, 200_000)}
    if not live or (len(live) < HOLD and random.random() < 0.5):
        resource = model.new("image")
        empty.append(resource)
        return "image.create", resource, {"name": resource}
    resource = random.choice(live)
    model.drop(resource)
    return "image.delete", resource, {}


def content(seed: int, size: int) -> bytes:
    """Return the content of an upload of `size` bytes."""
    return Random(seed).randbytes(size)


def checksum(seed: int, size: int) -> str:
    """Return the checksum that Glance computes for `content` of `size` bytes."""
    return hashlib.md5(content(seed, size), usedforsecurity=False).hexdigest()


def _request(session: Session, operation: Operation) -> Request | None:
    if operation.kind == "image.create":
        fields = {**operation.fields, "disk_format": "raw", "container_format": "bare"}
        return Request("image", "POST", "/v2/images", fields)
    image = session.id(operation.resource)
    if not image:
        return None
    if operation.kind == "image.delete":
        return Request("image", "DELETE", f"/v2/images/{image}", id=image)
    return Request("image", "PUT", f"/v2/images/{image}/file", data=content(**operation.fields), id=image)


def _made(answer: Answer) -> str:
    return str(answer.body["id"])


IMAGES = Workload("image", 2, _draw, _request, _made)
