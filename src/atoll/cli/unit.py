"""`atoll unit`: prints the systemd unit that starts the cloud with its machine."""

from __future__ import annotations

import click

from atoll.cli.session import Session
from atoll.cli.verb import verb


@verb("unit", "atoll unit >/etc/systemd/system/atoll.service\nsystemctl enable atoll")
@click.pass_obj
def command(session: Session) -> None:
    """Print a systemd unit that starts the cloud with its machine.

    The unit runs `atoll up` when the machine starts, as the present user, and `atoll down` before the machine stops. It does not wait for
    other sites. If the start fails, the unit tries again every half minute. Guests that ran before are started again.
    """
    import os
    import pwd

    from atoll.site.sites import check_known
    from atoll.site.unit import unit

    session.state.check()
    check_known(session.state, ())
    user = pwd.getpwuid(os.geteuid()).pw_name
    click.echo(unit(_program(), session.state.root, session.cache, user), nl=False)


def _program() -> list[str]:
    """Return the command line of this program as words; the first is an absolute path."""
    import sys
    from pathlib import Path

    own = Path(sys.argv[0]).absolute()
    return [str(own)] if own.name == "atoll" else [sys.executable, "-m", "atoll"]
