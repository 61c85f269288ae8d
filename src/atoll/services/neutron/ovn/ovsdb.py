"""The OVSDB server of a site, one process with the databases of the switch and of OVN's northbound and southbound side."""

from __future__ import annotations

import subprocess
from pathlib import Path

from atoll.files import make_directory
from atoll.runtime.child import Child
from atoll.runtime.program import become
from atoll.runtime.spec import ROOT
from atoll.services.contract import Service, Settings
from atoll.services.neutron.ovn import layout

SWITCH = "conf"
"""Name of the switch's database; all others are OVN's."""

SCHEMAS = {
    SWITCH: Path("/usr/share/openvswitch/vswitch.ovsschema"),
    "ovnnb": Path("/usr/share/ovn/ovn-nb.ovsschema"),
    "ovnsb": Path("/usr/share/ovn/ovn-sb.ovsschema"),
}
"""Paths of the schema of each database in Debian's packages."""


def configuration(_settings: Settings) -> dict[str, str]:
    """Return no files: the command line has the configuration."""
    return {}


def run(child: Child) -> None:
    """Create missing databases, convert databases of an older version, and serve all of them."""
    settings = Settings.load(child.arguments["directory"])
    make_directory(layout.directory(settings))
    schemas = SCHEMAS if settings.network == "ovn" else {SWITCH: SCHEMAS[SWITCH]}
    files = [_file(settings, name) for name in schemas]
    for file, schema in zip(files, schemas.values(), strict=True):
        _prepare(file, schema)
    socket = layout.database_socket(settings)
    become(
        child,
        layout.command(settings, "ovsdb-server", f"--remote=punix:{socket}", *map(str, files)),
        lambda: layout.answers(socket),
        layout.environment(settings),
    )


def northbound(settings: Settings) -> Path:
    """Return the file of the northbound database, which Neutron writes."""
    return _file(settings, "ovnnb")


def _file(settings: Settings, name: str) -> Path:
    return settings.data / "ovn" / f"{name}.db"


def _prepare(file: Path, schema: Path) -> None:
    if not file.exists():
        file.parent.mkdir(mode=0o700, exist_ok=True)
        subprocess.run(["ovsdb-tool", "create", file, schema], check=True)
    elif _tool("needs-conversion", file, schema) == "yes":
        subprocess.run(["ovsdb-tool", "convert", file, schema], check=True)


def _tool(question: str, file: Path, schema: Path) -> str:
    return subprocess.run(["ovsdb-tool", question, file, schema], check=True, capture_output=True, text=True).stdout.strip()


SERVICE = Service("ovsdb", __name__, configuration, listens=(), forked_from=ROOT)
