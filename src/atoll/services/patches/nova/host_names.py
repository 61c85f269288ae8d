"""Host names of servers in ASCII that fit into a DNS label.

Nova derives a server's host name from its name (`API._populate_instance_names` in nova/compute/api.py), and passes it to Neutron as the
DNS name of the server's ports. It keeps the letters of Latin-1, which Neutron refuses: a server called `café` ends in ERROR. And it
extends the names of several servers of one request beyond the 63 characters of a label. Here `nova.utils.sanitize_hostname` first
transliterates a name to ASCII: `café` becomes `cafe`, letters without a transliteration are dropped, and if nothing is left, Nova uses
`Server-UUID`. The number of a server replaces the end of a long name.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import wraps
from typing import Any

from nova import utils
from nova.compute import api

LONGEST = 63
"""Number of characters of a DNS label (RFC 1035, section 2.3.4)."""


def transliterating(sanitize: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `sanitize_hostname` with a transliteration to ASCII.

    Args:
        sanitize: upstream's function.
    """

    @wraps(sanitize)
    def sanitize_hostname(hostname: Any, default_name: str | None = None) -> Any:
        if isinstance(hostname, str):
            hostname = unicodedata.normalize("NFKD", hostname).encode("ascii", "ignore").decode("ascii")
        return sanitize(hostname, default_name)

    return sanitize_hostname


def with_short_labels(populate: Callable[..., None]) -> Callable[..., None]:
    """Wrap `API._populate_instance_names`, so that it makes labels of at most 63 characters.

    Args:
        populate: upstream's method.
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
    """Make Nova derive valid host names in this process: wrap `sanitize_hostname` and `_populate_instance_names`."""
    utils.sanitize_hostname = transliterating(utils.sanitize_hostname)
    api.API._populate_instance_names = with_short_labels(api.API._populate_instance_names)
