"""The table of uniqueness rules, compared with the databases of the installed services, and the names that requests use."""

import json
import subprocess
import sys

import pytest
from multidict import CIMultiDict

from atoll.gateway.request.call import Call
from atoll.gateway.resolve.routes import COMPUTE, IMAGES, network_resource
from atoll.gateway.resolve.unique import NAME_KINDS, RULES, How, Name, wanted

MODELS = {
    "nova": "from nova.db.main.models import BASE",
    "nova_api": "from nova.db.api.models import BASE",
    "neutron": "from neutron.db.migration.models import head; from neutron_lib.db.model_base import BASEV2 as BASE",
    "glance": "from glance.db.sqlalchemy.models import BASE",
    "glance_metadef": "from glance.db.sqlalchemy.models_metadef import BASE_DICT as BASE",
}
CONSTRAINTS = """
import json, sys
from sqlalchemy import UniqueConstraint
found = set()
for table in BASE.metadata.sorted_tables:
    unique = [each.columns for each in table.constraints if isinstance(each, UniqueConstraint)]
    unique += [each.columns for each in table.indexes if each.unique]
    found |= {f"{sys.argv[1]}.{table.name}({', '.join(column.name for column in columns)})" for columns in unique}
    key = [column.name for column in table.primary_key.columns]
    if key not in (["id"], ["uuid"]):
        found.add(f"{sys.argv[1]}.{table.name}[{', '.join(key)}]")
print(json.dumps(sorted(found)))
"""
GIVEN = {
    "glance.images[id]",
    *(f"neutron.{table}[id]" for table in ("networks", "subnets", "ports", "routers", "securitygroups", "securitygrouprules")),
}
"""Surrogate keys that a client may set."""


def test_every_rule_of_upstream_is_in_the_table():
    listed = [constraint for rule in RULES for constraint in rule.upstream]
    assert len(listed) == len(set(listed))
    found: set[str] = set()
    for service, models in MODELS.items():
        command = [sys.executable, "-W", "ignore", "-c", models + CONSTRAINTS, service]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        found |= set(json.loads(done.stdout.splitlines()[-1]))
    assert found - set(listed) == set(), "upstream has a uniqueness rule that resolve/unique.py lacks"
    assert set(listed) - found == GIVEN, "resolve/unique.py has a rule that upstream has removed"


def test_each_rule_of_the_whole_cloud_has_its_refusal():
    refusals = {kind.refusal for kind in NAME_KINDS.values()}
    for rule in RULES:
        assert (rule.how is How.CLOUD) == bool(rule.refusal)
        assert not rule.refusal or rule.refusal in refusals


def test_refusals_are_upstreams_own_words():
    ask = """
import json
from nova import exception as e
print(json.dumps([str(e.KeyPairExists(key_name="{}")), str(e.FlavorIdExists(flavor_id="{}")), str(e.FlavorExists(name="{}"))]))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", ask], capture_output=True, text=True, timeout=300, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [NAME_KINDS[each].refusal for each in ("key pair", "flavor", "flavor name")]


def post(service: str, path: str, body: object, version: str = "2.90", user: str | None = "u") -> Call:
    headers = CIMultiDict({"OpenStack-API-Version": f"compute {version}"})
    return Call("POST", service, path, "", headers, b"", "req-1", user).with_(json=body)


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (post("compute", "/v2.1/os-keypairs", {"keypair": {"name": " laptop "}}), [Name("key pair", "laptop", "u")]),
        (post("compute", "/v2.1/os-keypairs", {"keypair": {"name": "k", "user_id": "v"}}), [Name("key pair", "k", "v")]),
        (post("compute", "/v2.1/os-keypairs", {"keypair": {"name": "k", "user_id": "v"}}, "2.9"), [Name("key pair", "k", "u")]),
        (post("compute", "/v2.1/os-keypairs", {"keypair": {"name": "k"}}, user=""), []),
        (post("compute", "/v2.1/os-keypairs", {"keypair": []}), []),
        (post("compute", "/v2.1/os-keypairs", {"keypair": {}}), []),
        (post("compute", "/v2.1/flavors", {"flavor": {"name": "f", "id": "auto"}}), [Name("flavor name", "f")]),
        (post("compute", "/v2.1/flavors", {"flavor": {"name": "f", "id": 7}}), [Name("flavor", "7"), Name("flavor name", "f")]),
        (post("image", "/v2/images", {"name": "i"}), []),
        (post("image", "/v2/images", {"id": "i"}), [Name("image", "i")]),
        (post("network", "/v2.0/networks", {"network": {"name": "n"}}), []),
        (post("network", "/v2.0/networks", {"network": {"id": "n"}}), [Name("network", "n")]),
        (post("network", "/v2.0/networks", {"networks": [{"id": "n"}, {"id": "m"}]}), [Name("network", "m"), Name("network", "n")]),
        (post("network", "/v2.0/security-groups", {"security_group": {"id": "n"}}), [Name("security group", "n")]),
        (post("compute", "/v2.1/servers", {"server": {"name": "s"}}), []),
    ],
)
def test_names_that_a_creation_takes(call, names):
    resources = {"images": IMAGES, **COMPUTE}
    collection = call.path.rpartition("/")[2]
    assert wanted(call, resources.get(collection) or network_resource(collection)) == names


def test_flavors_of_neutron_take_no_name_of_the_whole_cloud():
    call = Call("POST", "network", "/v2.0/flavors", "", CIMultiDict(), None, "r", "u")
    asked = call.with_(json={"flavor": {"name": "small", "id": "7", "service_type": "L3_ROUTER_NAT"}})
    assert wanted(asked, network_resource("flavors")) == []
