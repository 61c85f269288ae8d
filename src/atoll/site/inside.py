"""Programs that a user runs inside a site: in its network, with its administrator's credentials."""

from __future__ import annotations

import os
import pwd
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from atoll.cloud import Cloud
from atoll.errors import AtollError
from atoll.runtime.client import connect
from atoll.services import Settings
from atoll.site import wan
from atoll.site.clients import exports, without_other_clouds
from atoll.site.sites import applied_cloud, site_settings
from atoll.site.state import State

SITE_VARIABLE = "ATOLL_SITE"
"""The environment variable with the name of the site in which a program runs."""

BASHRC = Path(__file__).with_name("inside.bashrc")
"""The file that bash reads instead of ~/.bashrc. It sources ~/.bashrc and sets the prompt."""


@dataclass(frozen=True)
class Place:
    """A site of a running cloud, for a program that will run in it.

    Attributes:
        state: the state directory of its cloud.
        cloud: the model.
        name: name of the site.
        settings: settings of the site whose APIs it uses: its own or its control site.
    """

    state: State
    cloud: Cloud
    name: str
    settings: Settings

    def environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return the user's own environment with the site's administrator account, and without variables of another cloud.

        Args:
            environment: the user's own environment.
        """
        made = without_other_clouds(environment, (site.host for site in self.cloud.sites)) | exports(self.settings)
        # The user's own programs come first, then OpenStack's client, which is beside the interpreter.
        path = os.pathsep.join((environment.get("PATH") or os.defpath, str(Path(sys.executable).parent)))
        return made | {
            "OS_CLIENT_CONFIG_FILE": str(self.state.clouds_file),
            "ATOLL_STATE": str(self.state.root),
            SITE_VARIABLE: self.name,
            "PATH": path,
        }

    def replace(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Enter the site, and replace this process with a program: this function does not return.

        Args:
            command: the program and its arguments.
            environment: the result of `environment`.

        Raises:
            AtollError: `command.not_found`: the program does not exist; `wan.*`: the site's network can't be entered.
        """
        program = shutil.which(command[0], path=environment["PATH"])
        if program is None:
            raise _not_found(command[0], "it is not on the PATH" if os.sep not in command[0] else "no such program")
        wan.enter(self.state, self.cloud, self.name)
        sys.stdout.flush()
        try:
            os.execve(program, list(command), dict(environment))  # noqa: S606 - replaces this process
        except OSError as error:
            raise _not_found(command[0], (error.strerror or str(error)).lower()) from error


def _not_found(program: str, why: str) -> AtollError:
    return AtollError("command.not_found", f"{program} can't be run: {why}", "expected a program of this machine: sites share its files")


def place(state: State, name: str) -> Place:
    """Return a site of a running cloud. The site itself may be stopped, because its network exists nevertheless.

    Args:
        state: the state directory of the cloud.
        name: name of the site.

    Raises:
        AtollError: `site.unknown`, `cloud.not_found`, `state.*`; `site.not_running`: the cloud is down.
    """
    state.check()
    settings = site_settings(state, name)
    cloud = applied_cloud(state)
    if cloud is None or connect(state.root) is None:
        raise AtollError("site.not_running", f"{name} is not running", "bring it up with `atoll up`")
    return Place(state, cloud, name, settings)


def shell_command(environment: Mapping[str, str], command_line: str | None = None) -> list[str]:
    """Return the command of the user's shell.

    Args:
        environment: the user's own environment.
        command_line: the command line for the shell to run; `None` means an interactive shell.
    """
    shell = environment.get("SHELL") or pwd.getpwuid(os.getuid()).pw_shell or "/bin/sh"
    if command_line is not None:
        return [shell, "-c", command_line]
    return [shell, "--rcfile", str(BASHRC)] if Path(shell).name == "bash" else [shell]
