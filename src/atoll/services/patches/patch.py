"""The form of an entry in the registry of patches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

UNIT = "tests/unit/services/"
"""The directory of most tests that entries name."""


def fingerprints_in(prefix: str, names: Mapping[str, str]) -> dict[str, str]:
    """Return the fingerprints of several names whose paths begin alike.

    Args:
        prefix: the beginning of their paths, such as `nova/network/neutron.py:API.`.
        names: the fingerprint of each name, without the prefix.
    """
    return {prefix + name: fingerprint for name, fingerprint in names.items()}


class PatchKind(StrEnum):
    """The ways in which Atoll reaches into upstream."""

    PLUGIN = "a plug-in at an extension point"
    SUBCLASS = "a subclass in the place of upstream's class"
    WRAPPER = "a function around upstream's"
    REPLACEMENT = "an object in the place of upstream's"
    CONSTANT = "another value of an attribute"
    EVENT = "a callback or an event"
    TRIGGER = "triggers in upstream's database"
    STARTUP = "upstream's start-up code, repeated"
    RECOVERY = "upstream's own functions, called before the service starts"


@dataclass(frozen=True)
class Patch:
    """One place where Atoll reaches into upstream.

    Attributes:
        name: a unique name.
        distribution: the distribution that the patched code belongs to.
        how: the way in which Atoll reaches into upstream.
        replaces: dotted paths of the upstream objects that Atoll replaces, wraps, sets or repeats, or that call Atoll.
        why: one sentence that says why Atoll needs it.
        module: the dotted path of Atoll's module.
        sources: fingerprints of the upstream code that the patch relies on, by `PATH:QUALIFIED_NAME`; the path begins at `site-packages`.
            `tests/unit/services/patches/test_registry.py` compares them.
        behaviour: the pytest node id of a test that shows what the patch does.
        still_needed: the pytest node id of a test that fails as soon as unpatched upstream behaves as the patch does.
        traffic: True if the patch reduces control traffic, so that `traffic: stock` in a site's YAML leaves it out.
        unprovable: the reason why there is no test for `still_needed`, in one sentence.
    """

    name: str
    distribution: str
    how: PatchKind
    replaces: tuple[str, ...]
    why: str
    module: str
    behaviour: str
    still_needed: str = ""
    unprovable: str = ""
    traffic: bool = False
    sources: Mapping[str, str] = field(default_factory=dict)
