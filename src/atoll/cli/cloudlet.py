"""`atoll cloudlet`: makes and checks bases, overlays and launch images, finds the nearest site, and runs servers there."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atoll.cli import cloudlet_capture, cloudlet_find, cloudlet_handoff, cloudlet_run
from atoll.cli.bar import Bar
from atoll.cli.cloudlet_upload import upload
from atoll.cli.output import print_json
from atoll.cli.verb import Group, group, json_option, verb

if TYPE_CHECKING:
    from atoll.cloudlet.description import ImageDescription
    from atoll.cloudlet.header import Header
    from atoll.cloudlet.source import Source

_FILE = click.Path(dir_okay=False, path_type=Path)
_DIRECTORY = click.Path(file_okay=False, path_type=Path)
_GIB = 1 << 30
_QCOW2 = b"QFI\xfb"


class _Size(click.FloatRange):
    """A positive number of GiB that is finite in bytes."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        size = float(super().convert(value, param, ctx))
        if not math.isfinite(size * _GIB):
            self.fail(f"{value} is not a finite number of GiB.", param, ctx)
        return size


class _Verbs(Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            from atoll.cli.main import INTERRUPTED

            click.echo(
                "error: interrupted\n"
                "hint: the same `apply`, `handoff` or `run` continues where it stopped; other commands leave nothing behind",
                err=True,
            )
            return INTERRUPTED


@group(
    "cloudlet",
    "atoll cloudlet base debian --disk debian.raw\n"
    "atoll cloudlet overlay app.overlay --base debian --disk app.raw --key key.pem\n"
    "atoll cloudlet apply app.overlay app --base debian --trust public.pem\n"
    "atoll cloudlet find --cloud paris\n"
    "atoll cloudlet run --cloud paris app",
    _Verbs,
)
def command() -> None:
    """Make virtual machines from a base and a small overlay.

    A base is an image of a generic guest: its disk and, optionally, the memory and devices of the stopped guest. An overlay holds the data
    of another guest that the base lacks. Base and overlay together make a launch image, which can be the base of further overlays.
    """


def _parts(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for the files of a guest."""
    for option in (
        click.option("--machine", metavar="TYPE", help="The machine type of the hypervisor, such as pc-q35-7.2."),
        click.option("--cpu", metavar="MODEL", help="The CPU model of a guest with memory, such as Haswell-v1."),
        click.option("--device", type=_FILE, metavar="FILE", help="The state of the guest's devices."),
        click.option("--memory", type=_FILE, metavar="FILE", help="The guest's memory, each page at its own place in the file."),
        click.option("--disk", type=_FILE, metavar="FILE", help="The guest's disk, in raw format."),
        click.option("--capture", type=_DIRECTORY, metavar="DIR", help="All files of a guest that `capture` has written."),
    ):
        function = option(function)
    return function


_trust = click.option("--trust", type=_FILE, multiple=True, metavar="PEM", help="A public key or certificate to trust; repeatable.")


@verb("base", "atoll cloudlet base debian --disk debian.raw\natoll cloudlet base warm --disk d --memory m --device s --cpu Haswell-v1")
@_parts
@json_option
@click.argument("target", type=_DIRECTORY)
def base(target: Path, *, as_json: bool, **given: Any) -> None:
    """Make the base TARGET, a directory, from the files of a stopped guest.

    The files are copied with their holes. The printed digest identifies the base by its content: the same files make the same base
    everywhere. --memory needs --cpu.
    """
    from atoll.cloudlet.base import make_base

    parts, cpu, machine = _guest(given)
    if (cpu is None) == ("memory" in parts):
        raise click.UsageError("--cpu and --memory belong together: expected both or neither")
    with Bar() as bar:
        description = make_base(parts, target, cpu or "", machine or "", bar)
    if as_json:
        print_json(_described(description) | {"path": str(target)})
    else:
        click.echo(f"{description.digest.hex()}  {target}")


@verb("overlay", "atoll cloudlet overlay app.overlay --base debian --disk app.raw --key key.pem")
@click.option("--base", "base_", type=_DIRECTORY, required=True, metavar="DIR", help="The base, or a launch image.")
@_parts
@click.option("--key", type=_FILE, required=True, metavar="PEM", help="The private key that signs: Ed25519, or P-256 such as a site's.")
@click.option(
    "--level", type=click.IntRange(1, 19), default=2, show_default=True, help="Level of compression; 19 is slow but makes small overlays."
)
@click.option("--jobs", type=click.IntRange(1, 256), metavar="N", help="Number of processes. [default: one per processor]")
@json_option
@click.argument("target", type=_FILE)
def overlay(*, target: Path, base_: Path, key: Path, as_json: bool, **given: Any) -> None:
    """Write the overlay TARGET: the pages of a stopped guest that a base lacks.

    The overlay contains each page of 4 KiB once. It contains no page of zeros, and no page that the base has in its disk or memory. The
    pages are compressed, and the overlay is signed. The files must not change meanwhile.
    """
    from atoll.cloudlet.encode import Task, make_overlay
    from atoll.cloudlet.keys import read_signing_key
    from atoll.cloudlet.workers import Workers, suitable

    jobs, level = given.pop("jobs"), given.pop("level")
    parts, cpu, machine = _guest(given)
    if cpu is not None and "memory" not in parts:
        raise click.UsageError("--cpu is given without --memory: expected both or neither")
    task = Task(base_, parts, target, level, cpu, machine)
    signer = read_signing_key(key)
    with Workers(jobs or suitable(task.parts.values())) as workers, Bar() as bar:
        made = make_overlay(task, signer, workers, bar)
    if as_json:
        counted = {"path": str(target), "bytes": made.length, "segments": made.segments, "pages": dict(made.pages)}
        print_json(counted | {"base": made.base.hex(), "result": _described(made.result)})
    else:
        click.echo(f"{target}: {_size(made.length)} in {_segments(made.segments)}, for base {made.base.hex()[:16]}")


@verb("verify", "atoll cloudlet verify app.overlay --trust public.pem\natoll cloudlet verify debian")
@_trust
@click.option("--base", "base_", type=_DIRECTORY, metavar="DIR", help="Also check that the overlay was made for this base.")
@json_option
@click.argument("name", metavar="OVERLAY|IMAGE")
def verify(name: str, trust: tuple[Path, ...], base_: Path | None, *, as_json: bool) -> None:
    """Check an overlay, a base or a launch image, to the last bit.

    OVERLAY is a file, an http or https URL, or `-` for standard input; it needs --trust. IMAGE is the directory of a base or a launch
    image.
    """
    if Path(name).is_dir():
        _verify_image(Path(name), as_json=as_json)
        return
    from atoll.cloudlet.apply import check_base
    from atoll.cloudlet.image import describe
    from atoll.cloudlet.inspection import check_overlay
    from atoll.cloudlet.source import opened

    with opened(name, sys.stdin.buffer if sys.stdin else None) as source, Bar() as bar:
        header = _header(source, trust)
        described = describe(base_) if base_ is not None else None
        if base_ is not None and described is not None:
            check_base(header, described, base_, source.name)
        check_overlay(source, header, bar, described)
    if as_json:
        counted = {"bytes": header.head_length + header.length, "segments": header.segments, "base": header.base.hex()}
        print_json(counted | {"result": _described(header.result)})
    else:
        click.echo(f"{name}: signed by a trusted key, {_segments(header.segments)} verified, for base {header.base.hex()[:16]}")


@verb(
    "apply",
    "atoll cloudlet apply app.overlay app --base debian --trust public.pem\n"
    "atoll cloudlet apply https://example.org/app.overlay app --base debian --trust public.pem\n"
    "ssh host cat app.overlay | atoll cloudlet apply - app --base debian --trust public.pem",
)
@click.option("--base", "base_", type=_DIRECTORY, required=True, metavar="DIR", help="The overlay's base.")
@_trust
@click.option("--cpu", metavar="MODEL", help="The CPU model of this machine; memory of another model is refused.")
@click.option("--cache", type=_DIRECTORY, metavar="DIR", help="Make the image in this cache instead of TARGET, unless the cache has it.")
@click.option("--limit", type=_Size(min=0, min_open=True), default=20, show_default=True, metavar="GIB", help="Largest size of the cache.")
@json_option
@click.argument("overlay", metavar="OVERLAY")
@click.argument("target", type=_DIRECTORY, required=False)
def apply(*, overlay: str, trust: tuple[Path, ...], cpu: str | None, as_json: bool, **places: Any) -> None:
    """Make the launch image TARGET from a base and OVERLAY, while the overlay arrives.

    OVERLAY is a file, an http or https URL, or `-` for standard input. If the transfer is interrupted, the same command continues where it
    stopped. With --cache instead of TARGET, the image's name is its digest, and the least recently used images are deleted if the cache is
    full.
    """
    if (places["target"] is None) == (places["cache"] is None):
        raise click.UsageError("expected either TARGET or --cache DIR")
    from atoll.cloudlet.apply import check_cpu
    from atoll.cloudlet.source import opened

    with opened(overlay, sys.stdin.buffer if sys.stdin else None) as source, Bar() as bar:
        header = _header(source, trust)
        if cpu is not None:
            check_cpu(header, cpu, source.name)
        path, resumed = _make(source, header, bar, **places)
    if as_json:
        print_json({"path": str(path), "resumed_segments": resumed, "cached": resumed is None} | _described(header.result))
    else:
        click.echo(f"{header.result.digest.hex()}  {path}")


_COMMANDS = (
    base,
    overlay,
    verify,
    apply,
    upload,
    cloudlet_capture.command,
    cloudlet_find.command,
    cloudlet_run.command,
    cloudlet_handoff.command,
)
for _each in _COMMANDS:
    command.add_command(_each)


def _guest(given: Mapping[str, Any]) -> tuple[dict[str, Path], str | None, str | None]:
    """Return the files of a guest by part, its CPU model and its machine type, as the options name them."""
    files = {name: given[name] for name in ("disk", "memory", "device")}
    directory = given["capture"]
    if directory is None:
        return _given(files), given["cpu"], given["machine"]
    if any(value is not None for value in (*files.values(), given["cpu"], given["machine"])):
        raise click.UsageError("--capture names all files of a guest: expected no other option for them")
    from atoll.cloudlet.captured import read_captured

    found = read_captured(directory)
    return dict(found.parts), found.cpu, found.machine


def _given(files: Mapping[str, Path | None]) -> dict[str, Path]:
    """Return the files that the options name, by part; refuse disks that are not raw."""
    parts = {name: path for name, path in files.items() if path is not None}
    if not parts:
        raise click.UsageError("expected --capture, --disk, --memory or --device")
    disk = parts.get("disk")
    if disk is not None and disk.is_file():
        with disk.open("rb") as file:
            if file.read(4) == _QCOW2:
                from atoll.errors import AtollError

                raise AtollError("cloudlet.invalid", f"{disk} is in qcow2: expected raw", f"`qemu-img convert -O raw {disk} {disk}.raw`")
    return parts


def _header(source: Source, trust: Sequence[Path]) -> Header:
    """Read the header of an overlay that one of the keys has signed."""
    from atoll.cloudlet.header import read_header
    from atoll.cloudlet.keys import read_trusted_key

    if not trust:
        raise click.UsageError("an overlay needs --trust PEM, the key of the overlay's maker")
    return read_header(source.read, [read_trusted_key(path) for path in trust], source.name)


def _make(source: Source, header: Header, bar: Bar, **places: Any) -> tuple[Path, int | None]:
    """Make a launch image; return its directory and the number of resumed segments, which is `None` if a cache had the image.

    Args:
        source: the overlay, read up to the end of its header.
        header: the overlay's header.
        bar: shows the progress.
        places: the base, the target or else the cache, and the cache's limit in GiB.
    """
    base_, target, limit = places["base_"], places["target"], places["limit"]
    if target is not None:
        from atoll.cloudlet.apply import apply as apply_

        return target, apply_(source, header, base_, target, bar).resumed
    from atoll.cloudlet.cache import LaunchCache
    from atoll.cloudlet.cached import apply_cached

    return apply_cached(source, header, base_, LaunchCache(places["cache"], int(limit * _GIB)), bar)


def _verify_image(path: Path, *, as_json: bool) -> None:
    from atoll.cloudlet.base import check_content
    from atoll.cloudlet.image import opened

    with opened(path) as image, Bar() as bar:
        check_content(image, bar)
    if as_json:
        print_json(_described(image.description) | {"path": str(path)})
    else:
        click.echo(f"{image.description.digest.hex()}  {path}")


def _described(description: ImageDescription) -> dict[str, Any]:
    parts = {part.name: {"bytes": part.size, "digest": part.root.hex()} for part in description.parts}
    return {"digest": description.digest.hex(), "cpu": description.cpu, "machine": description.machine, "parts": parts}


def _size(length: int) -> str:
    return f"{length / 2**20:.1f} MiB" if length >= 2**20 / 10 else f"{length / 2**10:.1f} KiB"


def _segments(count: int) -> str:
    return "1 segment" if count == 1 else f"{count} segments"
