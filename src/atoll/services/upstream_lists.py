"""The lists that the installed Nova, Glance and Neutron serve, with their query parameters, from upstream's schemas.

No service runs this code. It is used for the page docs/reference/lists.md, and in the test that the gateway knows each list.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any
from unittest import mock


@dataclass(frozen=True)
class UpstreamList:
    """One list of a service.

    Attributes:
        service: the service, by the first segment of the gateway's paths: compute, image or network.
        path: the path from the service's root, with names in braces for ids.
        parameters: all query parameters that the service knows.
        sort_keys: the values of `sort_key`.
    """

    service: str
    path: str
    parameters: tuple[str, ...]
    sort_keys: tuple[str, ...]


def nova() -> Iterator[UpstreamList]:
    """Return Nova's lists, from the routes of its API and the JSON schemas of their queries, of all microversions."""
    from nova.api.openstack.compute import routes

    for path, methods in routes.ROUTE_LIST:
        if isinstance(methods, str) or "GET" not in methods:
            continue
        controller, action = methods["GET"]
        method = getattr(controller.args[0], action)
        if getattr(method, "removed", False):
            continue  # the API answers 410
        properties: dict[str, Any] = {}
        sort_keys: set[str] = set()
        for schema, _least, _most in method.request_query_schemas._schemas:
            properties |= schema.get("properties", {})
            sort_keys |= set(schema.get("properties", {}).get("sort_key", {}).get("items", {}).get("enum", ()))
        if properties or not path.endswith("}"):
            yield _list("compute", f"/v2.1{path}".rstrip("/"), properties, sort_keys)


def glance() -> Iterator[UpstreamList]:
    """Return Glance's lists, from its routes, the sources of their deserialisers, and the schema of an image."""
    from glance.api.v2 import images, router
    from glance.common import wsgi
    from oslo_config import cfg

    cfg.CONF([], project="glance", default_config_files=[])
    found: list[tuple[str, str, Any]] = []

    def connect(_mapper: Any, path: str, controller: Any = None, action: str = "", conditions: Any = None, **_more: Any) -> None:
        if action != "reject" and (conditions or {}).get("method") == ["GET"]:
            found.append((path, action, controller))

    with mock.patch.multiple(wsgi.APIMapper, connect=connect, redirect=mock.DEFAULT):
        router.API(wsgi.APIMapper())
    image = images.get_schema().properties
    for path, action, controller in found:
        if path.startswith("/schemas/") or path.endswith(("}", "/file")):
            continue
        read = getattr(controller.deserializer, action, None)
        names = (
            set(re.findall(r"(?:params|filters)\.(?:pop|get)\('([a-z_-]+)'", _sources(controller.deserializer)))
            if read is not None
            else set()
        )
        keys: set[str] = set()
        if path == "/images":
            names |= set(image) | {"tag", "size_min", "size_max"}
            keys = set(images.RequestDeserializer._available_sort_keys)
        yield _list("image", f"/v2{path}", names, keys)


def _sources(deserializer: Any) -> str:
    """Return the source of the code that reads the parameters of a list."""
    names = [name for name in ("index", "_get_sorting_params", "_get_filters") if name in type(deserializer).__dict__]
    return "".join(
        inspect.getsource(getattr(type(deserializer), name)).replace("'sort_key' in params", "params.pop('sort_key'") for name in names
    )


def neutron() -> Iterator[UpstreamList]:
    """Return Neutron's lists, from its extensions and, for other packages, the API definitions of neutron-lib."""
    from neutron_lib import rpc
    from neutron_lib.plugins import directory

    with mock.patch.object(rpc, "get_notifier"), mock.patch.object(directory, "get_plugin", _plugin):
        attributes, collections = _attributes(), _collections()
    common = _common_parameters()
    for path, key in sorted(collections):
        of = attributes.get(key, {})
        filters = [name for name, spec in of.items() if spec.get("is_filter")]
        yield _list("network", f"/v2.0{path}", [*common, *filters], [name for name, spec in of.items() if spec.get("is_sort_key")])


def _common_parameters() -> set[str]:
    """Return the parameters that Neutron does not treat as filters."""
    from neutron.pecan_wsgi.hooks import query_parameters

    skips = re.search(r"skips=\[(.*?)\]", inspect.getsource(query_parameters._set_filters), re.DOTALL)
    assert skips is not None, "expected Neutron's list of parameters that are no filters: read its source again"
    return {*re.findall(r"'(\w+)'", skips[1]), "fields"}


def _collections() -> set[tuple[str, tuple[str, str]]]:
    """Return the path of each collection, the name of its parent's collection (empty if it has none), and its own name."""
    from neutron.pecan_wsgi import startup

    found = {(f"/{name}", ("", name)) for name in startup.RESOURCES.values()}
    for descriptor in _descriptors():
        for resource in descriptor.get_resources():
            parent = (resource.parent or {}).get("collection_name", "")
            key = (parent.replace("-", "_"), resource.collection.replace("-", "_"))
            if resource.path_prefix and key[1] in startup.RESOURCES.values():
                continue  # the extension only adds a field
            if parent:
                prefix = next((path for path, own in found if own == ("", key[0])), f"{resource.path_prefix}/{parent}")
                found.add((f"{prefix}/{{id}}/{resource.collection}", key))
            else:
                found.add((f"{resource.path_prefix}/{resource.collection}", key))
    known = {key for _path, key in found}
    for module in _modules("neutron_lib.api.definitions"):
        for name, parent in _defined(module):
            if (parent, name) in known:
                continue
            if f"neutron.extensions.{module.__name__.rpartition('.')[2]}" in sys.modules or module.__name__.endswith("_test"):
                continue  # its own extension would define it
            prefix = getattr(module, "API_PREFIX", "") or _OF_OTHERS.get(parent or name, "")
            found.add((f"{prefix}/{parent}/{{id}}/{name}" if parent else f"{prefix}/{name}", (parent, name)))
    return {(path, key) for path, key in found if not path.startswith(("/foo", "/qos/networks/", "/qos/ports/"))}


_OF_OTHERS = {"bgpvpns": "/bgpvpn", "tap_services": "/taas", "tap_flows": "/taas", "tap_mirrors": "/taas"}
"""Path prefixes of collections whose definitions lack them."""


def _defined(module: ModuleType) -> Iterator[tuple[str, str]]:
    """Yield the collections of an API definition: their names and those of their parents."""
    for name, fields in (getattr(module, "RESOURCE_ATTRIBUTE_MAP", None) or {}).items():
        if "id" in fields:
            yield name, ""
    for name, fields in (getattr(module, "SUB_RESOURCE_ATTRIBUTE_MAP", None) or {}).items():
        if "id" in (fields.get("parameters") or {}) and fields.get("parent"):
            yield name, fields["parent"]["collection_name"]


def _attributes() -> dict[tuple[str, str], dict[str, Mapping[str, Any]]]:
    found: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    maps: list[Mapping[str, Any]] = []
    for package in ("neutron_lib.api.definitions", "neutron.extensions"):
        for module in _modules(package):
            maps += [getattr(module, name, None) or {} for name in ("RESOURCE_ATTRIBUTE_MAP", "EXTENDED_ATTRIBUTES_2_0")]
            for name, sub in (getattr(module, "SUB_RESOURCE_ATTRIBUTE_MAP", None) or {}).items():
                parent = (sub.get("parent") or {}).get("collection_name", "")
                found.setdefault((parent, name), {}).update(sub.get("parameters") or {})
    maps += [descriptor.get_extended_resources("2.0") or {} for descriptor in _descriptors() if _extends(descriptor)]
    for each in maps:
        for name, fields in each.items():
            found.setdefault(("", name.replace("-", "_")), {}).update(fields)
    return found


def _extends(descriptor: Any) -> bool:
    try:
        descriptor.get_extended_resources("2.0")
    except Exception:
        return False
    return True


def _modules(package: str) -> Iterator[ModuleType]:
    parent = importlib.import_module(package)
    for each in pkgutil.iter_modules(parent.__path__):
        yield importlib.import_module(f"{package}.{each.name}")


def _descriptors() -> Iterator[Any]:
    """Return Neutron's own extensions as if all their plug-ins were loaded."""
    from neutron_lib.api import extensions

    for module in _modules("neutron.extensions"):
        for each in vars(module).values():
            if inspect.isclass(each) and issubclass(each, extensions.ExtensionDescriptor) and each.__module__ == module.__name__:
                yield each()


def _plugin(alias: str = "CORE") -> Any:
    """Return a double of a plug-in that supports everything, with a path prefix."""
    from neutron.extensions import logging, qos
    from neutron.services.metering import metering_plugin

    bases: tuple[Any, ...] = (logging.LoggingPluginBase, qos.QoSPluginBase)
    prefixes = {each.get_plugin_type(): each.path_prefix for each in bases}
    prefixes["METERING"] = metering_plugin.MeteringPlugin.path_prefix
    return mock.MagicMock(path_prefix=prefixes.get(alias, ""))


def _list(service: str, path: str, parameters: Iterable[str], sort_keys: Iterable[str]) -> UpstreamList:
    return UpstreamList(service, path, tuple(sorted(set(parameters))), tuple(sorted(set(sort_keys))))


_READERS: Mapping[str, Callable[[], Iterator[UpstreamList]]] = {"compute": nova, "image": glance, "network": neutron}


def read() -> list[UpstreamList]:
    """Return the lists of all services, each read by a process of its own, because the services share one global configuration.

    Raises:
        subprocess.CalledProcessError: the sources of a service have changed; the reason is on its standard error.
    """
    command = [sys.executable, "-W", "ignore", "-m", __name__]
    printed = [subprocess.run([*command, service], check=True, capture_output=True, text=True).stdout for service in _READERS]
    return [
        UpstreamList(**{**each, "parameters": tuple(each["parameters"]), "sort_keys": tuple(each["sort_keys"])})
        for text in printed
        for each in json.loads(text)
    ]


def main() -> None:
    """Print the lists of one service as JSON."""
    warnings.simplefilter("ignore")
    with redirect_stdout(sys.stderr):
        found = [asdict(each) for each in _READERS[sys.argv[1]]()]
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
