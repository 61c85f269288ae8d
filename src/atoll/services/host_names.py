"""Host names of servers in ASCII, and short enough for a DNS label.

Nova makes a server's host name of its name (`API._populate_instance_names` in nova/compute/api.py), and gives it to Neutron as the DNS name
of the server's ports. It keeps the letters of Latin-1, which Neutron refuses: a server called `café` ends in ERROR. And it lengthens the
names of several servers of one request beyond the 63 characters of a label. Replaced: `nova.utils.sanitize_hostname`, by one that spells a
name in ASCII first (`café` becomes `cafe`; letters without such a spelling are left out, and Nova calls the host `Server-UUID` if nothing
is left); and the number behind a long name, which now takes the place of the name's end.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import wraps
from typing import Any

from nova import utils
from nova.compute import api

LONGEST = 63
"""Characters of a DNS label (RFC 1035, section 2.3.4)."""


def spelled(sanitize: Callable[..., Any]) -> Callable[..., Any]:
    """Put the spelling in ASCII before `sanitize_hostname`.

    Args:
        sanitize: upstream's.
    """

    @wraps(sanitize)
    def sanitize_hostname(hostname: Any, default_name: str | None = None) -> Any:
        if isinstance(hostname, str):
            hostname = unicodedata.normalize("NFKD", hostname).encode("ascii", "ignore").decode("ascii")
        return sanitize(hostname, default_name)

    return sanitize_hostname


def shortened(populate: Callable[..., None]) -> Callable[..., None]:
    """Have `API._populate_instance_names` make labels of 63 characters at most.

    Args:
        populate: upstream's.
    """

    @wraps(populate)
    def populate_instance_names(self: Any, instance: Any, num_instances: int, index: int) -> None:
        given = "hostname" in instance and instance.hostname
        populate(self, instance, num_instances, index)
        if not given and len(instance.hostname) > LONGEST:
            number = f"-{index + 1}"
            instance.hostname = instance.hostname[: LONGEST - len(number)].rstrip("-") + number

    return populate_instance_names


def install() -> None:
    """Replace both, in this process."""
    utils.sanitize_hostname = spelled(utils.sanitize_hostname)
    api.API._populate_instance_names = shortened(api.API._populate_instance_names)
