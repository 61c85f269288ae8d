"""The extension that takes an id from an administrator: in Neutron's real API, over a database of its own."""

import uuid

import pytest
from upstream import check, inside

from atoll.services import neutron

GIVEN_IDS = "given-id"

CONFIGURATION = """
[DEFAULT]
core_plugin = ml2
service_plugins = router,{plugin}
api_extensions_path = {extensions}
auth_strategy = noauth
notify_nova_on_port_status_changes = false
notify_nova_on_port_data_changes = false
transport_url = fake://
state_path = {directory}
[database]
connection = sqlite:///{directory}/neutron.db?plugin=atoll
[ml2]
type_drivers = geneve
project_network_types = geneve
mechanism_drivers = agentless
[ml2_type_geneve]
vni_ranges = 1:100
"""

API = """
    directory, settings = sys.argv[1:]
    import contextlib
    import sqlite3
    import time
    import uuid
    import sqlalchemy
    import webob
    from atoll.services import base
    base.preload()
    base.allow_eventlet()
    from neutron.common import config
    from neutron.db.migration.models import head
    from neutron_lib import context

    config.register_common_config_options()
    config.init([], default_config_files=[settings])
    engine = sqlalchemy.create_engine(f"sqlite:///{directory}/neutron.db?plugin=atoll")
    head.get_metadata().create_all(engine)
    engine.dispose()
    from neutron.pecan_wsgi import app
    api = app.v2_factory({})
    who = {
        "admin": context.Context(user_id="root", project_id="theirs", roles=["admin", "member", "reader"], is_admin=True),
        "member": context.Context(user_id="bob", project_id="ours", roles=["member", "reader"], is_admin=False),
        "vouched": context.Context(
            user_id="bob", project_id="ours", roles=["member", "reader"], is_admin=False, service_roles=["gateway_network"]
        ),
    }

    def ask(name, path, body):
        request = webob.Request.blank(path, method="POST", content_type="application/json", body=json.dumps(body).encode())
        request.environ["neutron.context"] = who[name]
        answer = request.get_response(api)
        return answer.status_int, answer.json

    def listed(collection, key, identifier):
        request = webob.Request.blank(f"/{collection}?id={identifier}")
        request.environ["neutron.context"] = who["admin"]
        answer = request.get_response(api)
        return [answer.status_int, [each["id"] for each in answer.json.get(key, [])] == [identifier]]

    class Unseen:
        objects_exist = staticmethod(lambda *_arguments, **_filters: False)

    @contextlib.contextmanager
    def unseen():
        # Of two requests at the same time, neither sees what the other is about to write.
        from atoll.services import neutron_import

        sys.modules["unseen"] = type(sys)("unseen")
        sys.modules["unseen"].Unseen = Unseen
        known = dict(neutron_import.RESOURCES)
        neutron_import.RESOURCES |= {name: (resource, "unseen", "Unseen") for name, (resource, *_) in known.items()}
        yield
        neutron_import.RESOURCES |= known

    def counted():
        with sqlite3.connect(f"{directory}/neutron.db") as database:
            names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {name: database.execute(f"SELECT count(*) FROM {name}").fetchone() for name in names}

    def create(person, collection, resource, **fields):
        return ask(person, f"/{collection}", {resource: fields})

    network = create("member", "networks", "network", name="n")[1]["network"]["id"]
    group = create("member", "security-groups", "security_group", name="g")[1]["security_group"]["id"]
    bodies = {
        "network": ("networks", {"name": "m"}),
        "subnet": ("subnets", {"network_id": network, "ip_version": 4}),
        "port": ("ports", {"network_id": network}),
        "router": ("routers", {"name": "r"}),
        "security_group": ("security-groups", {"name": "h"}),
        "security_group_rule": ("security-group-rules", {"security_group_id": group, "direction": "ingress", "protocol": "tcp"}),
    }
    found = {}
    for third, (resource, (collection, body)) in enumerate(bodies.items()):
        def tried(name, number, **more):
            own = {"cidr": f"10.0.{number}.0/24"} if resource == "subnet" else {}
            own |= {"port_range_min": number, "port_range_max": number} if resource == "security_group_rule" else {}
            status, answer = create(name, collection, resource, **body, **own, **more)
            return status, answer.get(resource, answer.get("NeutronError"))

        given = str(uuid.uuid4())
        refused = tried("member", 1, id=given)
        made = tried("member", 2)
        accepted = tried("admin", 3, id=given, project_id="ours")
        again = tried("admin", 4, id=given, project_id="ours")
        rows = counted()
        with unseen():
            began = time.monotonic()
            raced = tried("admin", 7, id=given, project_id="ours")
            took = time.monotonic() - began
        found[resource] = {
            "refused": [refused[0], refused[1]["type"]], "made": [made[0], made[1]["id"]],
            "given": [accepted[0], accepted[1]["id"] == given], "again": [again[0], again[1]["type"]],
            "raced": [raced[0], raced[1]["type"], raced[1]["message"]], "took": took, "left": counted() != rows, "given id": given,
            "vouched": [tried("vouched", 5, id=str(uuid.uuid4()))[0], tried("vouched", 6, id=str(uuid.uuid5(uuid.uuid4(), "x")))[0]],
            "listed": listed(collection, collection.replace("-", "_"), given),
        }
    found["bulk"] = ask("member", "/networks", {"networks": [{"name": "a"}, {"name": "b", "id": str(uuid.uuid4())}]})[0]
    found["malformed"] = create("admin", "networks", "network", name="x", id="../x")[0]
    tell(found)
"""

UPSTREAM = """
    from neutron.extensions import securitygroup
    from neutron_lib.api.definitions import l3, network, port, subnet
    from atoll.services.neutron_import import RESOURCES, attribute

    maps = {}
    for module in (network, subnet, port, l3, securitygroup):
        maps |= module.RESOURCE_ATTRIBUTE_MAP
    ours = {collection: attribute(collection) for collection in RESOURCES}
    def different(ours, theirs):
        return [key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key)]

    tell({
        "different": {name: different(ours[name], maps[name]["id"]) for name in ours},
        "callable": all(callable(each["convert_to"]) for each in ours.values()),
    })
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    directory = tmp_path_factory.mktemp("neutron")
    extensions = neutron._sections(directory, "")["DEFAULT"]["api_extensions_path"]
    settings = directory / "neutron.conf"
    settings.write_text(CONFIGURATION.format(directory=directory, extensions=extensions, plugin=GIVEN_IDS).strip())
    return inside(API, str(directory), str(settings))


RESOURCES = ("network", "subnet", "port", "router", "security_group", "security_group_rule")


@pytest.mark.parametrize("resource", RESOURCES)
def test_gateway_vouches_for_ids_but_not_for_those_that_are_computed(found, resource):
    """Else a member that was broken into would give a tenant's group the id of another project's group `default`."""
    assert found[resource]["vouched"] == [201, 403 if resource.startswith("security_group") else 201]


@pytest.mark.parametrize("resource", RESOURCES)
def test_member_may_not_give_an_id(found, resource):
    assert found[resource]["refused"] == [403, "PolicyNotAuthorized"]


@pytest.mark.parametrize("resource", RESOURCES)
def test_without_an_id_one_is_made_for_anybody(found, resource):
    status, made = found[resource]["made"]
    assert status == 201
    assert uuid.UUID(made)


@pytest.mark.parametrize("resource", RESOURCES)
def test_administrator_gives_the_id(found, resource):
    assert found[resource]["given"] == [201, True]


@pytest.mark.parametrize("resource", RESOURCES)
def test_an_id_is_given_once(found, resource):
    assert found[resource]["again"] == [409, "IdTaken"]


@pytest.mark.parametrize("resource", RESOURCES)
def test_of_two_at_the_same_time_the_second_is_refused_at_once(found, resource):
    """Neutron would try again for a minute, as the id that a client has given stays taken."""
    status, kind, message = found[resource]["raced"]
    assert (status, kind) == (409, "IdTaken")
    assert message == f"There is a {resource} with id {found[resource]['given id']} already."
    assert found[resource]["took"] < 10
    assert not found[resource]["left"], "what the refused request has written"


@pytest.mark.parametrize("resource", RESOURCES)
def test_what_is_there_is_found_by_its_id(found, resource):
    assert found[resource]["listed"] == [200, True]


def test_each_of_a_bulk_is_looked_at(found):
    assert found["bulk"] == 403


def test_what_is_no_uuid_is_refused(found):
    assert found["malformed"] == 400


def test_upstreams_attribute_is_what_ours_is_laid_over():
    answer = inside(UPSTREAM)
    assert answer["callable"]
    changed = ("allow_post", "convert_list_to", "convert_to", "enforce_policy")
    assert {tuple(sorted(keys)) for keys in answer["different"].values()} == {changed}


def test_upstream_takes_the_id_from_the_body():
    known = {
        ("neutron/db/db_base_plugin_v2.py", "NeutronDbPluginV2.create_network_db"): "61db7fba",
        ("neutron/db/db_base_plugin_v2.py", "NeutronDbPluginV2.create_port_db"): "d4bb17be",
        ("neutron/db/l3_db.py", "L3_NAT_dbonly_mixin._create_router_db"): "da9473ae",
        ("neutron/db/securitygroups_db.py", "SecurityGroupDbMixin.create_security_group"): "5b0b9182",
        ("neutron/db/securitygroups_db.py", "SecurityGroupDbMixin._create_security_group_rule"): "c45bc59c",
        ("neutron/ipam/requests.py", "SubnetRequestFactory.get_request"): "badcd607",
        ("neutron/policy.py", "_is_attribute_explicitly_set"): "a35b373e",
        ("neutron/policy.py", "_build_match_rule"): "a2c29005",
    }
    check("neutron", known, "services/neutron_import gives the id to it, and leaves it to policy to refuse one")


def test_entry_points_lead_to_it():
    from importlib.metadata import entry_points

    (policies,) = entry_points(group="neutron.policies", name="atoll")
    (plugin,) = entry_points(group="neutron.service_plugins", name=GIVEN_IDS)
    assert policies.value == "atoll.services.neutron_import:list_rules"
    assert plugin.value == "atoll.services.neutron_import:GivenIdPlugin"


def test_it_is_switched_on(settings):
    text = neutron.configuration(settings)["neutron/neutron.conf"]
    assert f",{GIVEN_IDS}\n" in text
    assert "\napi_extensions_path = " in text
