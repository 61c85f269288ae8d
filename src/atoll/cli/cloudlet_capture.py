"""`atoll cloudlet capture`: writes the files of a running guest with its memory."""

from __future__ import annotations

from pathlib import Path

import click

from atoll.cli.bar import Bar
from atoll.cli.output import print_json
from atoll.cli.session import Session
from atoll.cli.verb import complete_site, json_option, verb

_DIRECTORY = click.Path(file_okay=False, path_type=Path)


@verb("capture", "atoll cloudlet capture paris generic generic.files\natoll cloudlet base warm --capture generic.files")
@json_option
@click.argument("site", metavar="SITE", shell_complete=complete_site)
@click.argument("server", metavar="SERVER")
@click.argument("target", type=_DIRECTORY)
@click.pass_obj
def command(session: Session, site: str, server: str, target: Path, *, as_json: bool) -> None:
    """Write the disk, the memory and the hardware of SERVER, a name or an id, to the directory TARGET, and stop it.

    `base --capture` and `overlay --capture` make a base or an overlay from the directory. The server's interfaces are detached before, so
    that no MAC address stays in its memory. Afterwards the server is SHUTOFF; `openstack server start` boots it with its interfaces. The
    server must run at SITE on this machine, with QEMU 9.0 and libvirt 11.2 or newer.
    """
    from atoll.site.capture import capture
    from atoll.site.sites import site_settings

    session.state.check()
    with Bar() as bar:
        done = capture(site_settings(session.state, site), server, target, bar)
    if as_json:
        print_json({"server": done.server, "path": str(done.path), "cpu": done.hardware.cpu, "machine": done.hardware.machine})
    else:
        click.echo(f"{done.path}: {done.server}, CPU model {done.hardware.cpu}, machine type {done.hardware.machine}")
