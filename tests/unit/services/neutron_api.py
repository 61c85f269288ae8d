"""Neutron's real API in an interpreter of its own, with the extension `given-id`."""

from pathlib import Path
from typing import Any

import pytest
from upstream import inside

from atoll.services.neutron import service

EXTENSIONS = service._sections(Path(), "")["DEFAULT"]["api_extensions_path"]

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

START = """
    directory, settings, *snippets = sys.argv[1:]
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
"""
"""Code for `inside`: Neutron's API as `api`, configured by a file, over a new database in a directory."""

API = (
    START
    + """
    import contextlib
    import sqlite3
    import time

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
        from atoll.services.neutron.given_id import plugin

        sys.modules["unseen"] = type(sys)("unseen")
        sys.modules["unseen"].Unseen = Unseen
        known = dict(plugin.RESOURCES)
        plugin.RESOURCES |= {name: (resource, "unseen", "Unseen") for name, (resource, *_) in known.items()}
        yield
        plugin.RESOURCES |= known

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
)


def with_and_without(directories: pytest.TempPathFactory, program: str, more: str = "") -> dict[str, Any]:
    """Return what a program tells with Atoll's patches ("ours") and without them ("upstream"); its variable `kind` is one of the two.

    Args:
        directories: makes the directory of each database.
        program: the program, which begins with `START`.
        more: further lines of the configuration.
    """
    found = {}
    for kind in ("ours", "upstream"):
        directory = directories.mktemp(kind)
        configuration = directory / "neutron.conf"
        configuration.write_text(CONFIGURATION.format(directory=directory, extensions=EXTENSIONS, plugin="revisions") + more)
        found[kind] = inside(f'    kind = "{kind}"\n' + program, str(directory), str(configuration))
    return found
