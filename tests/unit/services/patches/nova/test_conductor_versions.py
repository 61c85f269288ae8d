"""Batches over oslo.messaging: to a conductor that takes them, and to upstream's, also with upgrade levels that are pinned."""

import pytest
from upstream import inside

CONDUCTOR = """
    from nova import monkey_patch
    monkey_patch.patch(backend="threading")
    import nova.conf
    import nova.rpc
    import oslo_messaging
    from nova import config, context, objects
    from nova.objects.base import NovaObjectSerializer
    from atoll.services.patches.nova import batch_format, batches, conductor_batches
    from atoll.services.patches.nova.batch_actions import BatchAction

    takes, level = sys.argv[1] == "takes", sys.argv[2]
    objects.register_all()
    config.parse_args(["nova"], default_config_files=[], init_rpc=False)
    if level:
        nova.conf.CONF.set_override("conductor", level, "upgrade_levels")
    nova.rpc.TRANSPORT = oslo_messaging.get_rpc_transport(nova.conf.CONF, "fake://")
    nova.rpc.ALLOWED_EXMODS = ["nova.exception"]
    called, batched = [], []

    class Upstream:
        target = oslo_messaging.Target(version="3.0")
        def object_class_action_versions(self, context, objname, objmethod, object_versions, args, kwargs):
            called.append(args[0])
            return args[0]

    class Endpoint(conductor_batches.BatchEndpoint):
        def object_actions(self, context, contexts, actions):
            batched.append(len(actions))
            return super().object_actions(context, contexts, actions)

    upstream = Upstream()
    server = oslo_messaging.get_rpc_server(nova.rpc.TRANSPORT, oslo_messaging.Target(topic="conductor", server="s"),
        [upstream, *([Endpoint(upstream, None)] if takes else [])], executor="threading",
        serializer=nova.rpc.RequestContextSerializer(NovaObjectSerializer()))
    server.start()
    user = context.RequestContext(user_id="u", project_id="p")
    api = batches.BatchingAPI()

    def perform(count):
        del called[:], batched[:]
        actions = [BatchAction.of_class(user, "Service", "get", ({}, [number], {})) for number in range(count)]
        try:
            answers = [batch_format.load(user, answer) for _, answer in api.perform(actions)]
        except Exception as error:
            answers = type(error).__name__
        return [answers, list(called), list(batched)]

    def too_many():
        try:
            return endpoint.object_actions(user, [{}], ["{}"] * (batch_format.MAX_ACTIONS + 1))
        except ValueError as error:
            return str(error)
    endpoint = conductor_batches.BatchEndpoint(upstream, None)
    def large():
        before, batch_format.ENOUGH_CHARACTERS = batch_format.ENOUGH_CHARACTERS, 2
        try:
            return perform(5)
        finally:
            batch_format.ENOUGH_CHARACTERS = before
    tell({"few": perform(3), "large": large(), "many": perform(batch_format.MAX_ACTIONS + 2 if takes else 5), "too many": too_many()})
    server.stop()
"""


@pytest.mark.parametrize("level", ["", "3.0"])
@pytest.mark.parametrize("conductor", ["takes", "does not"])
def test_each_conductor_performs_the_calls_in_their_order(conductor, level):
    told, batched = inside(CONDUCTOR, conductor, level), conductor == "takes"
    assert told["few"] == [[0, 1, 2], [0, 1, 2], [3] if batched else []]
    assert told["large"] == [list(range(5)), list(range(5)), [5, 3] if batched else []]
    many = list(range(258 if batched else 5))
    assert told["many"] == [many, many, [256, 2] if batched else []]
    assert told["too many"] == "a batch of 257 actions; at most 256 may be sent in a message"
