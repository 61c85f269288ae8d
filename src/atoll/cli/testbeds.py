"""The parts of `up`, `down`, `destroy` and `status` for a cloud whose sites are on hosts of a testbed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from atoll.cli.output import STATE_STYLES, data_console, megabytes, new_table, plain, print_json
from atoll.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence


def _say(text: str) -> None:
    click.echo(plain(f"testbed: {text}"), err=True)


def is_there(session: Session) -> bool:
    """Return whether the cloud of this invocation is on a testbed."""
    from atoll.testbed import record

    return record.exists(session.state)


def provider_file(provider: str) -> Path:
    """Return the path in a value of `--provider`.

    Raises:
        click.UsageError: the value does not begin with `enoslib:`.
    """
    from atoll.testbed.document import PREFIX

    if not provider.startswith(PREFIX):
        raise click.UsageError(f"--provider {provider}: expected `{PREFIX}FILE`, such as {PREFIX}hosts.yaml")
    return Path(provider.removeprefix(PREFIX))


def up(session: Session, file: Path | None, provider: str | None) -> None:
    """Bring the cloud up on the hosts of a provider.

    Args:
        session: the invocation.
        file: the cloud's YAML; `None` means the cloud as last applied.
        provider: the value of `--provider`; `None` means the provider as last applied.

    Raises:
        click.UsageError: the value does not begin with `enoslib:`.
        AtollError: as for `atoll.testbed.up.up`.
    """
    from atoll.testbed.up import up as bring_up

    begun = time.monotonic()
    path = None if provider is None else provider_file(provider)
    record = bring_up(session.state, session.cache, file.absolute() if file else None, path, _say)
    click.echo(f"up in {time.monotonic() - begun:.1f} s:")
    width = max(map(len, record.placed))
    for name, placed in record.placed.items():
        click.echo(f"{name:{width}}  {placed.host.address}")
    click.echo(
        f"\n  export OS_CLIENT_CONFIG_FILE={session.state.clouds_file}\n  openstack --os-cloud {next(iter(record.placed))} server list"
    )


def down(session: Session, sites: Sequence[str]) -> None:
    """Stop sites on their hosts, which stay reserved."""
    from atoll.testbed.teardown import down as stop

    click.echo(f"stopped: {', '.join(stop(session.state, sites)) or 'none'}")


def destroy(session: Session, sites: Sequence[str], *, yes: bool) -> None:
    """Delete sites on their hosts, and release the hosts with the last one."""
    from atoll.cli.destroy import confirm
    from atoll.testbed.teardown import destroy as delete

    if not yes:
        confirm(f"Delete {', '.join(sites) or 'all sites'} on their hosts for good?")
    gone = delete(session.state, session.cache, sites, _say)
    click.echo(f"destroyed: {', '.join(gone) or session.state.root}")


def status(session: Session, sites: Sequence[str], *, as_json: bool) -> None:
    """Show the sites, their hosts, and their states.

    Raises:
        AtollError: `site.unknown`: a name is unknown; `testbed.failed`: a host's Atoll gave no status.
    """
    from atoll.cli.tables import styled
    from atoll.testbed import overview
    from atoll.testbed.record import load

    record = load(session.state)
    assert record is not None
    record.check_known(sites)
    found = [each for each in overview.sites(record) if not sites or each["name"] in sites]
    if as_json:
        print_json({"cloud": record.cloud.name, "sites": found})
        return
    table = new_table("SITE", "HOST", "STATE", "MEMORY", "API", numbers=("MEMORY",))
    for each in found:
        state = styled(each["state"], STATE_STYLES.get(each["state"]))
        table.add_row(each["name"], each["host"], state, megabytes(each["memory_bytes"]), each["url"] or "")
    data_console().print(table)
