"""`atoll image`: builds the image for guests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atoll.cli.output import print_json
from atoll.cli.session import Session
from atoll.cli.verb import complete_site, group, json_option, verb

if TYPE_CHECKING:
    from atoll.guest import Given
    from atoll.services import Settings
    from atoll.site.guest_image import Uploaded


@group("image", "atoll image build\natoll image build --upload guest")
def command() -> None:
    """Build images for guests."""


_READABLE = click.Path(exists=True, path_type=Path)


@verb("build", "atoll image build --upload guest\natoll image build guest.img --kernel /boot/vmlinuz-6.1 --modules /lib/modules/6.1")
@click.option("--kernel", type=_READABLE, metavar="VMLINUZ", help="The kernel; requires --modules.")
@click.option("--modules", type=_READABLE, metavar="DIR", help="The kernel's modules, a directory such as /lib/modules/VERSION.")
@click.option("--upload", metavar="NAME", help="Upload the image to a running site, as a public image of this name.")
@click.option("--site", metavar="SITE", shell_complete=complete_site, help="The site to upload to. [default: the first]")
@json_option
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.pass_obj
def build(session: Session, /, file: Path | None, upload: str | None, site: str | None, *, as_json: bool, **kernel: Path | None) -> None:
    """Build a small image that boots in seconds and shows its name.

    Guests get their addresses by DHCP, and their names, SSH keys and user data from a config drive or the metadata service. A web page at
    port 80 shows a guest's name. The image is built once, from this machine's Debian packages and without root. Without FILE, it stays in
    the cache directory. Without --kernel, it gets this machine's kernel, if that is Debian's; otherwise apt fetches Debian's cloud kernel
    the first time.

    --upload does nothing if the site has an image of that name with the same content.
    """
    from atoll.guest import build as built
    from atoll.guest.image import copy

    if site is not None and upload is None:
        raise click.UsageError("--site names the site to upload to: expected --upload NAME too")
    given = _given(**kernel)
    settings = _running(session, site) if upload is not None else None
    found = built(session.cache, given, _say)
    path = found.path
    if file is not None:
        path = file.absolute()
        copy(found.path, path, session.umask if session.umask is not None else 0o077)
    uploaded = _upload(session, settings, found.path, upload) if settings and upload else None
    if as_json:
        _print(found.kernel, path, upload, settings, uploaded, made=found.made)
        return
    click.echo(str(path))
    if uploaded is not None and settings is not None:
        click.echo(f"{'uploaded to' if uploaded.made else 'exists already at'} {settings.site}: {upload}  {uploaded.id}")


command.add_command(build)


def _given(kernel: Path | None, modules: Path | None) -> Given | None:
    from atoll.guest import Given

    if kernel is None and modules is None:
        return None
    if kernel is None or modules is None:
        raise click.UsageError("a kernel and its modules belong together: expected both --kernel and --modules, or neither")
    return Given(kernel, modules)


def _running(session: Session, site: str | None) -> Settings:
    """Return the settings of a running site, before the image is built for it."""
    from atoll.errors import AtollError
    from atoll.runtime.client import connect
    from atoll.site.sites import site_settings

    session.state.check()
    settings = site_settings(session.state, site)
    if connect(session.state.root) is None:
        raise AtollError("site.not_running", f"{settings.site} is not running", "bring it up with `atoll up`")
    return settings


def _upload(session: Session, settings: Settings, image: Path, name: str) -> Uploaded:
    from atoll.site import wan
    from atoll.site.guest_image import GuestImages
    from atoll.site.sites import applied_cloud

    _say(f"uploading {name} to {settings.site}")
    wan.enter(session.state, applied_cloud(session.state), settings.site)
    return GuestImages(settings).upload(image, name)


def _print(  # noqa: PLR0913 - each is a field
    kernel: str, path: Path, name: str | None, settings: Settings | None, uploaded: Uploaded | None, *, made: bool
) -> None:
    report: dict[str, Any] = {"file": str(path), "kernel": kernel, "made": made}
    if uploaded is not None and settings is not None:
        report["image"] = {"id": uploaded.id, "name": name, "site": settings.site, "uploaded": uploaded.made}
    print_json(report)


def _say(text: str) -> None:
    click.echo(f"image: {text} …", err=True)
