"""The cloud as last applied and the settings of its sites, read from files without asking any process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from atoll.cloud import Cloud, read_cloud
from atoll.errors import AtollError
from atoll.services import Settings
from atoll.site.composition import load_settings
from atoll.site.state import State


def applied_cloud(state: State) -> Cloud | None:
    """Return the cloud as last applied; `None` if there is none.

    Raises:
        AtollError: `cloud.invalid`: the file was edited and is not valid.
    """
    try:
        return read_cloud(state.cloud_file)
    except AtollError as error:
        if error.kind.code == "cloud.not_found":
            return None
        raise


def wanted_cloud(state: State, file: Path | None) -> Cloud:
    """Return the cloud for `up`: the one in the file, otherwise the one last applied, otherwise the default.

    Raises:
        AtollError: `cloud.not_found`; `cloud.invalid`: the file is not valid, or lacks an existing site; `state.unusable`: a site has begun
            to join another cloud.
    """
    applied = applied_cloud(state)
    if applied is None and state.joining_file.exists():
        message = f"{state.root}: a site has begun to join a cloud, and has not finished: expected it to finish first"
        raise AtollError("state.unusable", message, "run `atoll site join` with the same token again, or `atoll destroy`")
    if file is None:
        cloud = applied or Cloud.default()
    else:
        cloud = read_cloud(file, {site.name: site for site in applied.sites} if applied else None)
    known = [*(applied.site_names if applied else ()), *state.existing_sites()]
    vanished = sorted(set(known) - set(cloud.site_names))
    if vanished:
        names = " ".join(vanished)
        message = f"{file or state.cloud_file}: leaves out {', '.join(vanished)}: expected every site that exists"
        raise AtollError("cloud.invalid", message, f"put it back, or run `atoll destroy {names}` first")
    if applied:
        _check_kinds(applied, cloud, str(file or state.cloud_file))
    return cloud


def _check_kinds(applied: Cloud, cloud: Cloud, source: str) -> None:
    """Check that existing sites keep their kind and control site, because a site's data can't be used for another kind."""
    before = {site.name: site for site in applied.sites}
    for site in cloud.sites:
        old = before.get(site.name, site)
        if (site.kind, site.control) != (old.kind, old.control):
            was = f"a compute site of {old.control}" if old.control else "a full site"
            message = f"{source}: {site.name} is {was}: expected it to stay one"
            raise AtollError("cloud.invalid", message, f"change it back, or run `atoll destroy {site.name}` first")


def known_sites(state: State) -> list[str]:
    """Return the names of the existing sites, in the order of the cloud."""
    cloud = applied_cloud(state)
    names = cloud.site_names if cloud else ()
    return [*names, *(name for name in state.existing_sites() if name not in names)]


def check_known(state: State, names: Sequence[str]) -> None:
    """Check that all names are names of sites.

    Raises:
        AtollError: `site.unknown`: a name is unknown, and the message lists the known ones; `cloud.not_found`: there is no cloud.
    """
    known = known_sites(state)
    if not known:
        raise AtollError("cloud.not_found", f"there is no cloud in {state.root}", "start one with `atoll up`")
    for name in names:
        if name not in known:
            raise AtollError("site.unknown", f"no site is called {name}: expected one of {', '.join(known)}", "see `atoll status`")


def site_settings(state: State, name: str | None = None) -> Settings:
    """Return the settings of the site whose APIs a site uses: its own, or its control site.

    Args:
        state: the state directory.
        name: name of the site; `None` means the first.

    Raises:
        AtollError: `site.unknown`, `cloud.not_found`, `state.unusable`.
    """
    check_known(state, [name] if name is not None else [])
    settings = load_settings(state.site(name or known_sites(state)[0]))
    return load_settings(state.site(settings.control)) if settings.control else settings
