"""Ids in paths: each is quoted, and remains one segment."""

import ast
import json
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

import atoll.gateway
from atoll.gateway.request.call import Call
from atoll.gateway.request.paths import segment
from atoll.gateway.request.target import _PLAIN, Refused, parse
from atoll.gateway.resolve.mentions import leading
from atoll.gateway.resolve.placing import creation
from atoll.gateway.resolve.references import KINDS, NETWORKING
from atoll.gateway.resolve.routes import network_resource

HOSTILE = (
    "../x?y#z%2f",
    "..",
    ".",
    "",
    "a b",
    "x HTTP/1.1\r\nHost: y\r\n\r\nGET /",
    "é",
    "\ud800",
    "%2e%2e",
    "x/y",
    "x;y",
    "x\\..\\y",
    "\0",
)

TRUSTED = {
    # By file and expression, the reason why a client can't choose the value, or why it is a path already.
    ("draft.py", "self.call.path"): "the path of the request itself",
    ("delivery.py", "operation.path"): "the path of the request itself",
    ("call.py", "self.path"): "the path of the request",
    ("call.py", "self.query"): "the query of the request",
    ("connections.py", "host"): "of a member's card",
    ("zones.py", "member.host"): "of a member's card",
    ("zones.py", "member.public_port"): "a number",
    ("zones.py", "self._options.host"): "of the site's own settings",
    ("zones.py", "self._options.public_port"): "a number",
    ("api.py", "REQUESTS"): "a constant",
    ("peer_client.py", "below"): "a constant",
    ("peer_client.py", "departure.id"): "a UUID that this gateway has chosen",
    ("peer_client.py", "call.path"): "one of the constants of this module, with numbers",
    ("management.py", "base"): "of the site's own settings",
    ("management.py", "ROOT"): "a constant",
    ("packages.py", "self._base"): "of the site's own settings",
    ("packages.py", "_PACKAGES"): "a constant",
    ("user_services.py", "path"): "one of the constants of the edge APIs",
    ("sites.py", "peer.url"): "of a member's card",
    ("sites.py", "call.target"): "built by these builders, or checked by target.parse",
    ("sites.py", "call.service"): "one of target.SERVICES",
    ("rbac_policies.py", "TYPES[kind].collection"): "of the table",
    ("rbac_policies.py", "found[1]"): "a part of the request's own path",
    ("rbac_policies.py", "RBAC[loan.kind]"): "of the table",
    ("rbac_policies.py", "key"): "one of three constants",
    ("names.py", "kind.collection"): "of the table in unique.py",
    ("unique.py", "collection"): "of a table",
    ("visibility.py", "path"): "the path of the request, or checked by target.parse",
    ("sites.py", "path"): "built by these builders",
    ("in_use.py", "collection"): "one of two constants",
    ("placing.py", "path"): "of the table in resolve/references.py",
    ("network.py", "collection"): "one of two constants",
    ("bringer.py", "members"): "built from a quoted id",
    ("service_client.py", "kind.path"): "of the table in resolve/references.py",
    ("port_users.py", "path"): "of the table in port_users.py",
    ("pull.py", "offset"): "a number",
    ("pull.py", "length"): "a number",
    ("consoles.py", "PEER_PATH"): "a constant",
    ("consoles.py", "asked.kind"): "one of url.KINDS",
    ("consoles.py", "held"): "matches url._TOKEN",
    ("finder.py", "token"): "matches url._TOKEN",
    ("chunks.py", "_identifier(request)"): "matches a UUID",
    ("perform.py", "operation.query"): "the query of the request itself, checked by target.parse",
    ("perform.py", "operation.path"): "the path of the request itself",
    ("perform.py", "collection"): "of the table in perform.py",
    ("perform.py", "re.escape(requester.project)"): "a pattern that a path is compared with",
    ("grants.py", "members"): "built from a quoted id",
    ("holders.py", "_SLUGS[kind]"): "of a table",
    ("holders.py", "query"): "nothing, or made by urlencode",
}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_hostile_id_stays_one_segment_or_is_refused(hostile: str) -> None:
    try:
        quoted = segment(hostile)
    except ValueError:
        assert hostile in {"", ".", "..", "\ud800"}
        return
    assert unquote(quoted) == hostile
    assert not set(quoted) & set("/?#;\\ \r\n\0")


@given(st.text())
def test_any_text_stays_one_segment_or_is_refused(text: str) -> None:
    try:
        path = f"/v2.0/networks/{segment(text)}/tags"
    except ValueError:
        return
    assert _PLAIN.fullmatch(path)
    assert path.split("/")[:3] + path.split("/")[-1:] == ["", "v2.0", "networks", "tags"]
    assert path.count("/") == 4
    assert "?" not in path
    assert path.split("/")[3] not in {"", ".", ".."}


@pytest.mark.parametrize("name", sorted(name for name in NETWORKING if leading(name)))
@pytest.mark.parametrize("hostile", HOSTILE)
def test_parents_of_a_creation_are_asked_for_by_one_segment(name: str, hostile: str) -> None:
    resource = network_resource(name)
    body = json.dumps({resource.item: dict.fromkeys(leading(resource.key), hostile)}).encode()
    made = creation(Call("POST", "network", f"/v2.0/{name}", "", CIMultiDict(), body, "req-x"), resource, {"paris"})
    for parent in made.parents:
        assert parent.path.rpartition("/")[0] in {kind.path for kind in KINDS.values()}
        assert not set(parent.path) & set("?# \r\n")


def paths_made_in(source: str) -> list[tuple[int, str]]:
    """Yield the line and the source of each unquoted expression in an f-string that looks like the path or query of a request."""
    found, seen = [], set()
    for scope in _scopes(ast.parse(source)):
        quoted = {
            target.id
            for node in ast.walk(scope)
            if isinstance(node, ast.Assign) and _is_quoted(ast.unparse(node.value))
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(scope):
            if isinstance(node, ast.JoinedStr) and node not in seen and _is_path(node):
                seen.add(node)
                values = [value for value in node.values if isinstance(value, ast.FormattedValue)]
                found += [(value.lineno, ast.unparse(value.value)) for value in values if ast.unparse(value.value) not in quoted]
    return [(line, text) for line, text in found if not _is_quoted(text)]


def _scopes(module: ast.Module) -> list[ast.AST]:
    """Yield the functions of a module, then the module."""
    return [*(node for node in ast.walk(module) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)), module]


def _is_quoted(text: str) -> bool:
    return text.startswith(("segment(", "quote(", "urlencode("))


def _is_path(node: ast.JoinedStr) -> bool:
    text = "".join(value.value if isinstance(value, ast.Constant) else "\x00" for value in node.values)
    return " " not in text and any(mark in text for mark in ("/v2", "/v3", "/images/", "\x00/\x00", "?"))


def test_the_search_for_unquoted_ids_finds_them() -> None:
    assert paths_made_in('f"/v2/images/{x}"') == [(1, "x")]
    assert paths_made_in('f"{path}/{x.y}"') == [(1, "path"), (1, "x.y")]
    assert paths_made_in('f"/v2/images/{segment(x)}"') == []
    assert paths_made_in('def a():\n    x = quote(y)\n    return f"/v2/{x}"\ndef b(x):\n    return f"/v2/{x}"') == [(5, "x")]
    assert paths_made_in('LOG.info(f"{a} is here")') == []


def test_no_id_goes_unquoted_into_a_path() -> None:
    root = Path(atoll.gateway.__file__).parent
    wrong = []
    for path in sorted(root.rglob("*.py")):
        if path.name in {"url.py", "target.py", "paging.py", "server.py"}:
            continue  # these modules parse URLs, and build them from parts of URLs
        source = path.read_text(encoding="utf-8")
        wrong += [f"{path.name}:{line}: {text}" for line, text in paths_made_in(source) if (path.name, text) not in TRUSTED]
    assert not wrong


@pytest.mark.parametrize(
    "path",
    [
        "v2.0/expanded-ports",
        "v2.0/expanded_ports/1",
        "v2.0/expanded-networks.json",
        "v2.0/fwaas/expanded-ports",
        "v2.0/port-group-names",
        "v2.0/port_group_names/1",
        "v2.0/expanded-ports?id=1",
    ],
)
def test_collections_of_services_are_not_for_clients(path):
    with pytest.raises(Refused, match="use ports and networks") as caught:
        parse(f"/network/{path}")
    assert caught.value.status == 404
    assert parse(f"/network/{path}", of_service=True).service == "network"
    with pytest.raises(Refused):
        parse(f"/scope/lyon/network/{path}")


def test_a_tag_may_have_the_name_of_such_a_collection():
    assert parse("/network/v2.0/networks/1/tags/expanded-ports").path == "/v2.0/networks/1/tags/expanded-ports"
    assert parse("/network/v2.0/extensions/expanded-ports").path == "/v2.0/extensions/expanded-ports"
