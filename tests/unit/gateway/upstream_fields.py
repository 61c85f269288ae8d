"""Reads every field that a client may send to the installed Nova, Neutron and Glance from their schemas and API definitions."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

_TEXT = frozenset(("string", None))


@cache
def upstream() -> dict[str, Any]:
    """Return all of the fields, read in a process of its own, since importing the services changes the process that does it."""
    done = subprocess.run([sys.executable, "-W", "ignore", __file__], capture_output=True, text=True, check=True)
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def of_nova() -> set[str]:
    """Return the paths (`server.networks[].uuid`) of all text fields in request bodies of all versions and actions."""
    schemas = importlib.import_module("nova.api.openstack.compute.schemas")
    found: set[str] = set()
    for module in _modules(schemas):
        for name, value in vars(module).items():
            about_bodies = not name.startswith("_") and not any(word in name for word in ("response", "query"))
            if isinstance(value, dict) and value.get("type") == "object" and about_bodies:
                found.update(_texts(value, ""))
    return {path for path in found if path}


def _modules(package: ModuleType) -> Iterator[ModuleType]:
    for each in pkgutil.iter_modules(package.__path__):
        if not each.name.startswith("_"):
            yield importlib.import_module(f"{package.__name__}.{each.name}")


def _texts(node: Any, path: str) -> Iterator[str]:
    if not isinstance(node, dict):
        return
    for several in ("oneOf", "anyOf", "allOf"):
        for each in node.get(several, ()):
            yield from _texts(each, path)
    for name, value in node.get("properties", {}).items():
        yield from _texts(value, f"{path}.{name}".lstrip("."))
    for value in (*node.get("patternProperties", {}).values(), node.get("additionalProperties")):
        yield from _texts(value, f"{path}.*".lstrip("."))
    yield from _texts(node.get("items"), f"{path}[]")
    types = node["type"] if isinstance(node.get("type"), list) else [node.get("type")]
    composite = any(key in node for key in ("properties", "oneOf", "anyOf", "allOf", "items", "enum"))
    if not composite and _TEXT & set(types):
        yield path


def of_neutron() -> dict[str, dict[str, Any]]:
    """Return the attributes that a client may set, by the table's name of the request."""
    found: dict[str, dict[str, Any]] = {}
    for module in _definitions():
        for collection, attributes in (getattr(module, "RESOURCE_ATTRIBUTE_MAP", None) or {}).items():
            found.setdefault(collection.replace("-", "_"), {}).update(_given(attributes))
        for collection, described in (getattr(module, "SUB_RESOURCE_ATTRIBUTE_MAP", None) or {}).items():
            parent = described.get("parent", {}).get("collection_name")
            name = f"{parent}/{{}}/{collection}" if parent else collection
            found.setdefault(name.replace("-", "_"), {}).update(_given(described.get("parameters", {})))
    return found


def actions_of_neutron() -> dict[str, set[str]]:
    """Return the actions that change a resource, by the name of the resource."""
    found: dict[str, set[str]] = {}
    for module in _definitions():
        for resource, actions in (getattr(module, "ACTION_MAP", None) or {}).items():
            found.setdefault(resource, set()).update(name for name, method in actions.items() if method != "GET")
    return found


def _definitions() -> Iterator[ModuleType]:
    """Return neutron-lib's API definitions, and the extensions that Neutron itself defines."""
    for name in ("neutron_lib.api.definitions", "neutron.extensions"):
        yield from _modules(importlib.import_module(name))


def _given(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in attributes.items() if isinstance(each, dict) and (each.get("allow_post") or each.get("allow_put"))}


def of_glance() -> set[str]:
    """Return the properties of an image that a client may set."""
    images = importlib.import_module("glance.api.v2.images")
    return {name for name, each in images.get_schema().properties.items() if not each.get("readOnly")}


if __name__ == "__main__":
    actions = {name: sorted(each) for name, each in actions_of_neutron().items()}
    everything = {"nova": sorted(of_nova()), "neutron": of_neutron(), "actions": actions, "glance": sorted(of_glance())}
    print(json.dumps(everything, default=str))  # noqa: T201 - a program
