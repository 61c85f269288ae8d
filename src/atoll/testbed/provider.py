"""The client of EnOSlib: sends requests to `worker.py` in EnOSlib's environment, and turns its errors into Atoll's."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll.errors import AtollError
from atoll.files import make_directory
from atoll.testbed import environment, worker
from atoll.testbed.document import ProviderDocument, refused

_ANSIBLE = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_PIPELINING": "1", "ANSIBLE_GATHERING": "explicit"}
"""Settings of Ansible: run modules without copying them to the hosts, and gather facts only where EnOSlib requests them."""


@dataclass(frozen=True)
class Provider:
    """A provider of EnOSlib with its configuration.

    Attributes:
        file: the provider's file, for error messages.
        document: the content of the file.
        directory: the working directory, in which some providers, such as Vagrant, keep files.
        cache: the user's cache directory, which has EnOSlib's environment and its logs.
        say: called with lines about the progress.
    """

    file: Path
    document: ProviderDocument
    directory: Path
    cache: Path
    say: Callable[[str], None]

    def validate(self) -> None:
        """Have EnOSlib check the configuration.

        Raises:
            AtollError: `testbed.invalid`: the configuration is not valid; `testbed.requirement`: EnOSlib can't be installed;
                `testbed.failed`: EnOSlib can't check it, for instance because it can't reach the testbed's API.
        """
        self._ask("validate")

    def reserve(self) -> list[dict[str, Any]]:
        """Reserve the hosts, unless they are reserved already, and return how to reach each: `address`, `user`, `port`, and so on.

        Raises:
            AtollError: as for `validate`.
        """
        found = self._ask("reserve")["hosts"]
        assert isinstance(found, list)
        return found

    def addresses(self, hosts: Mapping[str, str]) -> dict[str, str]:
        """Return the IPv4 address of each host on the network of the sites, by its SSH address.

        Args:
            hosts: the path of Python on each host, by its SSH address.
        """
        found = self._ask("addresses", hosts=dict(hosts), network=self.document.network)["addresses"]
        assert isinstance(found, dict)
        return found

    def constrain(self, hosts: Mapping[str, str], constraints: Sequence[Mapping[str, Any]]) -> dict[str, int]:
        """Apply constraints with EnOSlib's netem service, in place of earlier ones.

        Args:
            hosts: the path of Python on each host, by its SSH address.
            constraints: the constraints, as `constraints.between` returns them.

        Returns:
            The number of netem's queues that each host must have, by its SSH address.
        """
        found = self._ask("constrain", hosts=dict(hosts), network=self.document.network, constraints=list(constraints))["queues"]
        assert isinstance(found, dict)
        return found

    def relax(self, hosts: Mapping[str, str]) -> None:
        """Remove all constraints from hosts; see `addresses`."""
        self._ask("relax", hosts=dict(hosts))

    def release(self) -> None:
        """Release the reserved hosts; static hosts stay as they are."""
        self._ask("release")

    def _ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        program = environment.python(self.cache, self.say)
        make_directory(self.directory)
        request = {"verb": verb, "provider": self.document.provider, "configuration": self.document.configuration, **arguments}
        own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | _ANSIBLE
        log = self.cache / "enoslib" / f"{verb}.log"
        with log.open("w", encoding="utf-8") as errors:
            done = subprocess.run(
                [str(program), str(Path(worker.__file__))],
                input=json.dumps(request, default=str),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                check=False,
                cwd=self.directory,
                env=own,
            )
        try:
            answer: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            raise AtollError("testbed.failed", f"EnOSlib ended with exit code {done.returncode}", f"see {log}") from None
        if "error" in answer:
            raise self._error(answer["error"], program, log)
        return answer

    def _error(self, error: Mapping[str, Any], program: Path, log: Path) -> AtollError:
        name, text = self.document.provider, error["text"]
        if error["kind"] == "configuration":
            return refused(self.file, error["path"], text)
        if error["kind"] == "refused":
            return AtollError("testbed.failed", f"{self.file}: {name}: {text}")
        if error["kind"] == "packages":
            extra = name.removesuffix("kvm").removesuffix("baremetal")
            hint = f"install its clients into EnOSlib's environment: {program} -m pip install 'enoslib[{extra}]'"
            return AtollError("testbed.requirement", f"the provider {name} needs the Python module {text}, which is not installed", hint)
        return AtollError("testbed.failed", f"{name}: {text}", f"see {log}")
