"""The cloud's YAML: parsed, with errors that name the file, the line and the expected value, and written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from atoll.cloud import topology, yaml_errors
from atoll.cloud.databases import EXPECTED, Database
from atoll.cloud.discovery import Discovery
from atoll.cloud.model import Cloud, Rabbit, ServicePlan, Site
from atoll.cloud.tracing import Tracing
from atoll.cloud.trust import Homed
from atoll.cloud.yaml_errors import Form
from atoll.errors import AtollError

_NESTED: dict[str, type[BaseModel]] = {
    "sites": Site,
    "services": ServicePlan,
    "rabbit": Rabbit,
    "database": Database,
    "homed": Homed,
    "trace": Tracing,
    "discovery": Discovery,
    **topology.NESTED,
}
_OWN_TEXT = {
    "services_needed",
    "name_reserved",
    "host_unspecified",
    "options_invalid",
    "network_services_invalid",
    "url_invalid",
    "database_invalid",
    "cloud_inconsistent",
    "homed_invalid",
    "discovery_invalid",
}
_MAPPINGS: dict[type[BaseModel], str] = {
    Cloud: "a mapping with `sites`",
    Site: "a mapping with at least `name`",
    ServicePlan: "a mapping such as {nova: false}",
    Rabbit: "a mapping with at least `url`",
    Database: EXPECTED,
    Homed: "a mapping such as {domain: 2f0c…, sites: [paris]}",
    Tracing: "a mapping such as {sample: 0.01}",
    Discovery: "a mapping such as {serves: {paris: [10.1.0.0/16]}}",
    **topology.MAPPINGS,
}

_FORM = Form(
    root=Cloud,
    nested=_NESTED,
    mappings=_MAPPINGS,
    own_text=frozenset(_OWN_TEXT),
    code="cloud.invalid",
    missing="cloud.not_found",
    kind="cloud",
    example="a mapping with `sites`, such as {sites: [{name: paris}]}",
    list_field="sites",
)


def read_cloud(path: Path, known: Mapping[str, Site] | None = None) -> Cloud:
    """Return a cloud, read from a YAML file.

    Args:
        path: the file.
        known: existing sites, by name. If the file gives no port or address for such a site, the site keeps its present one.

    Raises:
        AtollError: `cloud.not_found`: the file does not exist; `cloud.invalid`: the file can't be read or is not valid.
    """
    return yaml_errors.read(path, _FORM, known=known or {})


def parse_cloud(content: str | bytes, source: str, known: Mapping[str, Site] | None = None, directory: Path | None = None) -> Cloud:
    """Parse the YAML text of a cloud.

    Args:
        content: the YAML text.
        source: the text's name in errors, such as the path of the file.
        known: as in `read_cloud`.
        directory: the directory that paths in the text are relative to; default: the current directory.

    Raises:
        AtollError: `cloud.invalid`: the text is not valid; the message is one line with the place, the expected value and the value found.
    """
    return yaml_errors.parse(content, source, _FORM, directory, known=known or {})


def dump_cloud(cloud: Cloud) -> str:
    """Return the YAML of a cloud. It contains all ports, so that they stay the same when it is read again."""
    return yaml.safe_dump(to_data(cloud), sort_keys=False)


def to_data(cloud: Cloud) -> dict[str, Any]:
    """Return the YAML of a cloud as plain data."""
    # A port is never left out as a default, because the model may have assigned it.
    data: dict[str, Any] = {"name": cloud.name, "sites": [site.model_dump(mode="json", exclude_defaults=True) for site in cloud.sites]}
    if cloud.topology is not None:
        data["topology"] = cloud.topology.model_dump(mode="json", exclude_defaults=True)
    said = cloud.model_dump(mode="json", exclude_defaults=True)
    data |= {name: value for name in ("trust", "homed", "lists", "trace", "discovery") if (value := said.get(name))}
    return data


def make_cloud(data: Mapping[str, Any], known: Mapping[str, Site]) -> Cloud:
    """Return the cloud that plain data describe, which do not come from a file.

    Args:
        data: the data, as `to_data` returns it.
        known: as in `read_cloud`.

    Raises:
        AtollError: `cloud.invalid`: the data are not valid; the message is one line with the place, the expected value and the value found.
    """
    try:
        return Cloud.model_validate(data, context={"known": known})
    except ValidationError as error:
        node = yaml.compose(yaml.safe_dump(data)) or yaml.MappingNode("", [])
        _number, text = min(yaml_errors.explanations(node, _FORM, error))
    raise AtollError("cloud.invalid", text)
