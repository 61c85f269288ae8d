"""Ids and MAC addresses of servers that arrive by a hand-off, with upstream's own class."""

from upstream import inside

PRELUDE = """
    import inspect, threading
    from types import SimpleNamespace
    from nova import monkey_patch
    monkey_patch.patch(backend="threading")
    from nova import config, exception, objects
    from nova.conf import CONF
    objects.register_all()
    CONF([], project="nova", default_config_files=[])
    from nova.compute import api
    from nova.network import neutron
    upstream = inspect.getsource(api.API._provision_instances)
    from atoll.services.patches.nova import arriving_servers
    removed = []
    arriving_servers.remove = removed.append

    def provision(self, context, flavor, min_count, max_count, base_options, boot_meta, security_groups, block_device_mapping,
                  instance_group, check_server_group_quota, filter_properties, key_pair=None, tags=None):
        return [api.uuidutils.generate_uuid(), api.uuidutils.generate_uuid(), base_options.get("system_metadata", {}), filter_properties]

    assert list(inspect.signature(api.API._provision_instances).parameters)[:12] == list(inspect.signature(provision).parameters)[:12]
    api.API._provision_instances = provision
    create = lambda self, context, port_client, instance, network_id, *more: port_client.create_port({"port": {"network_id": network_id}})
    neutron.API._create_port_minimal = create
    neutron.API.deallocate_for_instance = lambda self, context, instance: [context.auth_token, context.is_admin]
    arriving_servers.install()

    def ask(hints, roles=(), count=1):
        context = SimpleNamespace(service_roles=list(roles))
        filters = {"scheduler_hints": dict(hints)}
        try:
            return api.API._provision_instances(None, context, None, count, count, {}, None, None, None, None, None, filters)
        except Exception as error:
            return [error.code, error.explanation]
"""

HANDOFF = "5f1c2d9a-0b1e-4c55-9d5b-0a4b7c1d2e3f"
HINTS = {
    "atoll_handoff": HANDOFF,
    "atoll_handoff_server": "0dcd6de4-7d4c-4a1a-a3a8-3a6a0e8d7c55",
    "atoll_handoff_macs": "n=fa:16:3e:00:00:01",
}


def test_only_the_gateway_gives_an_id():
    plain, given, after, stranger, several, removed = inside(
        PRELUDE
        + f"""
    hints = {HINTS!r}
    tell([ask({{"group": "g"}}), ask(hints, ["gateway_compute"]), ask({{}}), ask(hints, ["service"]), ask(hints, ["gateway_compute"], 2),
          removed])
    """
    )
    assert plain[2:] == [{}, {"scheduler_hints": {"group": "g"}}]
    assert given[0] == HINTS["atoll_handoff_server"] != given[1]
    assert given[2:] == [{"atoll_handoff": HANDOFF, "atoll_handoff_macs": HINTS["atoll_handoff_macs"]}, {"scheduler_hints": {}}]
    assert after[0] not in {given[0], plain[0]}
    assert stranger == several == [403, "The hint atoll_handoff is the site's own: a server can't be given an id."]
    assert removed == [HINTS["atoll_handoff_server"]]


def test_ids_that_could_name_other_directories_are_refused():
    wrong = ("_base", "../x", "0dcd6de47d4c4a1aa3a83a6a0e8d7c55", HANDOFF.upper(), ["x"])
    cases = [HINTS | {name: value} for name in ("atoll_handoff", "atoll_handoff_server") for value in wrong]
    cases.append({"atoll_handoff": HANDOFF})
    *answers, removed = inside(
        PRELUDE
        + f"""
    tell([*(ask(each, ["gateway_compute"]) for each in {cases!r}), removed])
    """
    )
    assert {code for code, _ in answers} == {400}
    assert removed == []


def test_ports_keep_their_mac_addresses_unless_neutron_refuses():
    made, refused, other, ordinary = inside(
        PRELUDE
        + """
    class Client:
        def __init__(self, *refused):
            self.refused = refused
        def create_port(self, body):
            if body["port"].get("mac_address") in self.refused:
                raise exception.Forbidden()
            return body["port"].get("mac_address")

    def port(network, *refused, **metadata):
        return neutron.API._create_port_minimal(None, None, Client(*refused), SimpleNamespace(system_metadata=metadata), network)

    macs = {"atoll_handoff": "h", "atoll_handoff_macs": "n=a,n=b,m=c"}
    tell([port("n", **macs), [port("n", "a", **macs), port("n", "a", "b", **macs)], port("o", **macs), port("n", atoll_handoff_macs="n=a")])
    """
    )
    assert (made, refused, other, ordinary) == ("a", ["b", None], None, None)


def test_ports_of_a_server_that_the_gateway_deletes_are_deleted_by_nova_itself():
    gateway, user = inside(
        PRELUDE
        + """
    from nova import context
    def free(*roles):
        return neutron.API.deallocate_for_instance(None, context.RequestContext("u", "p", roles=list(roles), auth_token="t"), None)
    tell([free("gateway_compute"), free("member")])
    """
    )
    assert (gateway, user) == ([None, True], ["t", False])


def test_upstream_still_chooses_the_id_itself():
    upstream, schema = inside(
        PRELUDE
        + """
    from nova.api.openstack.compute.schemas import servers
    tell([upstream, sorted(servers.create["properties"]["server"]["properties"])])
    """
    )
    assert "instance_uuid = uuidutils.generate_uuid()" in upstream
    assert "id" not in schema
    assert "uuid" not in schema


ROWS = """
    from nova import monkey_patch
    monkey_patch.patch(backend="threading")
    import uuid
    from nova import config, context, objects
    from nova.conf import CONF
    objects.register_all()
    CONF([], project="nova", default_config_files=[])
    from nova.db.api import api as api_database
    from nova.db.api import models as api_models
    from nova.db.main import api as database
    from nova.db.main import models
    from oslo_messaging import transport
    from atoll.services.patches.nova import arriving_servers

    CONF.register_opts(transport._transport_opts)
    for name, kept in (("api_database", api_models), ("database", models)):
        CONF.set_override("connection", f"sqlite:///{sys.argv[1]}/{name}.db", name)
    database.configure(CONF)
    api_database.configure(CONF)
    admin = context.get_admin_context(read_deleted="yes")
    for manager, kept in ((api_database.context_manager, api_models), (database.context_manager, models)):
        kept.BASE.metadata.create_all(manager.writer.get_engine())
    cell = objects.CellMapping(
        context=admin, uuid=str(uuid.uuid4()), name="c", transport_url="fake:///",
        database_connection=CONF.database.connection, disabled=False)
    cell.create()

    def server(identifier, deleted):
        more = dict(system_metadata={"a": "b"}, metadata={"k": "v"})
        made = objects.Instance(context=admin, uuid=identifier, project_id="p", user_id="u", **more)
        made.create()
        objects.InstanceMapping(context=admin, instance_uuid=identifier, cell_mapping=cell, project_id="p").create()
        action = objects.InstanceAction.action_start(admin, identifier, "create")
        objects.InstanceActionEvent.event_start(admin, identifier, "event")
        if deleted:
            made.destroy()

    def count(identifier):
        return len(objects.InstanceActionList.get_by_instance_uuid(admin, identifier))
"""


def test_rows_of_a_deleted_server_make_room_and_others_stay(tmp_path):
    returned, existing, other = inside(
        ROWS
        + """
    gone, lives, bystander = (str(uuid.uuid4()) for _ in range(3))
    server(gone, True), server(lives, False), server(bystander, True)
    for identifier in (gone, lives, str(uuid.uuid4())):
        arriving_servers.remove(identifier)
    first = count(gone)
    server(gone, True)  # with its id once more
    arriving_servers.remove(gone)
    server(gone, False)
    tell([first, [count(lives), objects.Instance.get_by_uuid(admin, lives).deleted], count(bystander)])
    """,
        str(tmp_path),
    )
    assert returned == 0
    assert existing == [1, False]
    assert other == 1
