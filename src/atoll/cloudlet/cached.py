"""Makes launch images from overlays, and keeps them in a cache."""

from __future__ import annotations

from pathlib import Path

from atoll.cloudlet import image
from atoll.cloudlet.apply import apply, check_base
from atoll.cloudlet.base import Report
from atoll.cloudlet.cache import LaunchCache, occupied
from atoll.cloudlet.failures import unusable
from atoll.cloudlet.header import Header
from atoll.cloudlet.source import Source
from atoll.errors import AtollError


def apply_cached(source: Source, header: Header, base: Path, cache: LaunchCache, report: Report) -> tuple[Path, int | None]:
    """Return the launch image of an overlay from a cache; if the cache lacks the image, make it there.

    Args:
        source: the overlay, read up to the end of its header. If the cache has the image, nothing more is read.
        header: the overlay's header, whose signature was verified.
        base: the directory of the base image.
        cache: the cache.
        report: called with the progress.

    Returns:
        The image's directory, and the number of segments that an interrupted command had applied. The number is `None` if the cache had the
        image.

    Raises:
        AtollError: as for `apply`; `state.space`: the image does not fit into the cache.
    """
    digest = header.result.digest
    with cache.held(digest) as path:
        if path is not None:
            return path, None
    check_base(header, image.describe(base), base, source.name)
    cache.make_room(occupied(base), keep=digest)
    target = cache.path(digest)
    resumed = apply(source, header, base, target, report).resumed
    if occupied(target) > cache.limit:
        _drop(cache, digest, target)
    with cache.held(digest):
        cache.make_room(0)
    return target, resumed


def _drop(cache: LaunchCache, digest: bytes, target: Path) -> None:
    size = occupied(target)
    try:
        cache.remove(digest)
    except OSError as error:
        raise unusable(error.filename or target, error) from None
    raise AtollError(
        "state.space", f"the launch image has {size} bytes, but the cache's limit is {cache.limit} bytes", "give a larger limit"
    )
