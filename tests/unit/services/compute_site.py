"""A compute site in one process, for `upstream.inside`: Nova's real objects, manager and tracker, and a conductor that messages reach.

Messages are JSON, as on the bus. Everything that a kill could separate is an entry of `steps`: each save in the database, and each effect
outside of it (a request over HTTP that changes anything, the start and the destruction of a guest), with the state of the database then.
"""

from upstream import NOVA

LAB = (
    NOVA
    + """
    import threading
    from concurrent import futures
    from types import SimpleNamespace
    from unittest import mock
    import nova.rpc
    from keystoneauth1 import session
    from nova import exception, service as services
    from nova.compute import manager, resource_tracker, task_states, vm_states
    from nova.conductor import manager as conductors, rpcapi
    from nova.network import model
    from nova.objects.base import NovaObject, NovaObjectSerializer
    from nova.scheduler.client import report
    import oslo_messaging
    from oslo_messaging._drivers import common
    from oslo_serialization import jsonutils
    from oslo_utils import uuidutils
    from atoll.services.patches.nova import accepted_deletion, conductor_batches, recovering_manager

    accepted_deletion.install()
    nova.conf.CONF.set_override("host", "edge")
    nova.rpc.NOTIFIER = SimpleNamespace(is_enabled=lambda: False)

    class Side(threading.local):
        conductor = False
    side, steps, messages, requests, refusals = Side(), [], [], [], set()

    class Disturbed:
        # What another process does before one of the writes in the database, counted from 1.
        number, write, act = 0, 0, None
        def before_write(self):
            self.number += 1
            if self.number == self.write:
                try:
                    self.act()
                except Exception:
                    raise oslo_messaging.ExpectedException()
    disturbed = Disturbed()

    def note(what):
        steps.append([what, state() if disturbed.act is None else None])

    def state():
        before, side.conductor = side.conductor, True
        try:
            rows = []
            for one in objects.InstanceList.get_all(admin, expected_attrs=["info_cache"]):
                events = [[event.event, event.result] for action in objects.InstanceActionList.get_by_instance_uuid(admin, one.uuid)
                          for event in objects.InstanceActionEventList.get_by_action(admin, action.id)]
                disks = [disk.device_name for disk in objects.BlockDeviceMappingList.get_by_instance_uuid(admin, one.uuid)]
                vifs = len(objects.VirtualInterfaceList.get_by_instance_uuid(admin, one.uuid))
                rows.append([one.vm_state, one.task_state, one.host, len(one.info_cache.network_info or []), vifs, disks, events])
            return rows
        finally:
            side.conductor = before

    class Placement(report.SchedulerReportClient):
        def __init__(self):
            pass
        def get_allocations_for_consumer(self, context, consumer):
            requests.append(["GET", "edge" if not side.conductor else "conductor"])
            return {}
        def delete_allocation_for_instance(self, context, uuid, consumer_type="instance", force=False):
            if "placement" in refusals:
                raise exception.AllocationDeleteFailed(consumer_uuid=uuid, error="refused")
            requests.append(["DELETE", "edge" if not side.conductor else "conductor"])
            note("allocations deleted")
            return True
    report.SchedulerReportClient._create_client = lambda self: None
    for name in ("get_allocations_for_consumer", "delete_allocation_for_instance"):
        setattr(report.SchedulerReportClient, name, getattr(Placement, name))

    conductor = conductors.ConductorManager.__new__(conductors.ConductorManager)
    conductor.compute_task_mgr = SimpleNamespace(report_client=Placement())
    for name in ("object_action", "object_class_action_versions"):
        def noted(*arguments, _perform=getattr(conductor, name), **keywords):
            arguments = (*arguments, *keywords.values())
            method = arguments[2]
            reads = method.startswith("get") or method == "refresh" or "ComputeNode" in str(arguments[1])[:30]
            if not reads:
                disturbed.before_write()
            result = _perform(*arguments)
            if not reads:
                note("written")
            return result
        setattr(conductor, name, noted)
    endpoint = conductor_batches.BatchEndpoint(conductor, None)

    class Wire:
        # Calls of the conductor; `prepare` chooses between its two endpoints.
        def __init__(self, to=conductor):
            self.to = to
        def prepare(self, namespace=None, **_more):
            if namespace and "batches" in refusals:
                return Wire(None)
            return Wire(endpoint if namespace else conductor)
        def call(self, context, method, **arguments):
            serializer = NovaObjectSerializer()
            text = jsonutils.dumps(serializer.serialize_entity(context, arguments))
            kind = arguments.get("objname") or ("objinst" in arguments and arguments["objinst"].obj_name())
            messages.append(f"{kind}.{arguments['objmethod']}" if kind else method)
            if self.to is None:
                raise oslo_messaging.RemoteError("UnsupportedVersion", "1.0")
            side.conductor = True
            try:
                theirs = context.from_dict(jsonutils.loads(jsonutils.dumps(context.to_dict())))
                result = getattr(self.to, method)(theirs, **serializer.deserialize_entity(theirs, jsonutils.loads(text)))
                answer = jsonutils.dumps(serializer.serialize_entity(theirs, result))
            except oslo_messaging.ExpectedException as expected:
                raise common.deserialize_remote_exception(common.serialize_remote_exception(expected.exc_info), ["nova.exception"])
            finally:
                side.conductor = False
            return serializer.deserialize_entity(context, jsonutils.loads(answer))

    rpcapi.ConductorAPI.__init__ = lambda self: setattr(self, "client", Wire())

    class Indirection:
        # The conductor's own code has a database, nova-compute's has none; here both are threads of one process.
        def __get__(self, one, kind):
            return None if side.conductor else self.api
    def separate():
        where = Indirection()
        where.api = NovaObject.indirection_api or rpcapi.ConductorAPI()
        NovaObject.indirection_api = where

    class Answer:
        status_code = 204
    def request(self, url, method, *arguments, **keywords):
        if method != "GET":
            note(f"{method} {url}")
        return Answer()
    session.Session.request = request
    http = session.Session()

    class Networks:
        # The calls that upstream's network API makes, in its order.
        def allocate_for_instance(self, context, instance, **_more):
            http.request("/networks", "GET")
            http.request("/ports", "POST")
            uuid = uuidutils.generate_uuid()
            vif = objects.VirtualInterface(context, address="fa:16:3e:00:00:01", instance_uuid=instance.uuid, uuid=uuid, tag=None)
            vif.create()
            instance.info_cache.refresh()
            found = model.NetworkInfo([model.VIF(id=vif.uuid)])
            self.cached(context, instance, found)
            return found
        def deallocate_for_instance(self, context, instance, **_more):
            http.request("/ports", "GET")
            http.request("/ports/1", "DELETE")
            objects.VirtualInterface.delete_by_instance_uuid(context, instance.uuid)
            self.cached(context, instance, model.NetworkInfo([]))
        def cached(self, context, instance, found):
            cache = objects.InstanceInfoCache.new(context, instance.uuid)
            cache.network_info = found
            cache.save()
            instance.info_cache = cache
        def get_instance_nw_info(self, context, instance):
            return model.NetworkInfo([])

    class Driver:
        capabilities = {}
        def spawn(self, *_arguments, network_info=None, **_more):
            list(network_info)
            if "spawn" in refusals:
                raise exception.NovaException("the guest does not start")
            note("guest started")
        def destroy(self, *_arguments):
            note("guest destroyed")
        def node_is_available(self, name):
            return True
        def network_binding_host_id(self, context, instance):
            return "edge"
        def default_root_device_name(self, *_arguments):
            return "/dev/vda"
        def default_device_names_for_instance(self, *_arguments):
            pass
        def get_info(self, *_arguments, **_more):
            return SimpleNamespace(state=1)
        def __getattr__(self, name):
            return lambda *arguments, **keywords: None

    def host(kind):
        compute = kind.__new__(kind)
        networks, driver = Networks(), Driver()
        if hasattr(kind, "terminate_instance") and kind.__name__ == "BatchingManager":
            compute._deallocating, compute._attaching, compute._lock = {}, __import__("collections").Counter(), threading.Lock()
        tracker = resource_tracker.ResourceTracker("edge", driver, report.SchedulerReportClient())
        node = objects.ComputeNode(admin, uuid=uuidutils.generate_uuid(), hypervisor_hostname="edge", host="edge", vcpus=8, memory_mb=8192,
            local_gb=100, vcpus_used=0, memory_mb_used=0, local_gb_used=0, free_ram_mb=8192, free_disk_gb=100, hypervisor_type="fake",
            hypervisor_version=1, cpu_info="", current_workload=0, running_vms=0, disk_available_least=100, cpu_allocation_ratio=1.0,
            ram_allocation_ratio=1.0, disk_allocation_ratio=1.0, pci_device_pools=objects.PciDevicePoolList(), numa_topology=None, stats={})
        side.conductor = True
        try:
            node.create()
            objects.Service(admin, host="edge", binary="nova-compute", topic="compute", disabled=False).create()
        finally:
            side.conductor = False
        tracker.compute_nodes["edge"] = node
        tracker._update_to_placement = lambda context, node, startup: tracker._sync_compute_service_disabled_trait(context, set())
        tracker.reportclient = report.SchedulerReportClient()
        compute.__dict__.update(host="edge", rt=tracker, reportclient=tracker.reportclient, network_api=networks, notifier=mock.Mock(),
            instance_events=manager.InstanceEvents(), _build_semaphore=threading.Semaphore(4), send_instance_updates=False,
            volume_api=mock.Mock())
        compute.driver = driver
        compute.compute_task_api = mock.Mock()
        compute.share_manager = SimpleNamespace(get_share_info=lambda context, instance, check_status=True:
            list(objects.ShareMappingList.get_by_instance_uuid(context, instance.uuid)))
        return compute
    def at_once(function, *arguments, **keywords):
        # The thread that allocates networks runs beside the others; here it runs before them, so that runs can be compared.
        answer = futures.Future()
        def work():
            try:
                answer.set_result(function(*arguments, **keywords))
            except Exception as error:
                answer.set_exception(error)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return answer
    model.thread_pool_factory = SimpleNamespace(spawn=at_once)
    manager.time.sleep = lambda seconds: None
    manager.ComputeManager._notify_about_instance_usage = lambda *arguments, **keywords: None

    user = context.RequestContext(user_id="u", project_id="p", roles=["member"], request_id="req-1")

    def server():
        side.conductor = True
        try:
            made = objects.Instance(user, uuid=uuidutils.generate_uuid(), project_id="p", user_id="u", vm_state=vm_states.BUILDING,
                task_state=task_states.SCHEDULING, flavor=flavor(), system_metadata={}, metadata={}, image_ref="i",
                pci_requests=objects.InstancePCIRequests(requests=[]), numa_topology=None)
            made.create()
            disk = objects.BlockDeviceMapping(user, instance_uuid=made.uuid, source_type="image", destination_type="local", boot_index=0,
                                              image_id="i", device_name=None, delete_on_termination=True)
            disk.create()
            objects.InstanceAction.action_start(user, made.uuid, "create")
            found = objects.Instance.get_by_uuid(user, made.uuid, expected_attrs=[
                "system_metadata", "metadata", "flavor", "info_cache", "pci_requests", "numa_topology", "security_groups", "trusted_certs"])
            disks = objects.BlockDeviceMappingList.get_by_instance_uuid(user, made.uuid)
        finally:
            side.conductor = False
        return found, disks

    def elsewhere(instance, **changes):
        # Another process saves the server.
        before, side.conductor = side.conductor, True
        try:
            row = objects.Instance.get_by_uuid(admin, instance.uuid)
            for name, value in changes.items():
                setattr(row, name, value)
            row.save()
        finally:
            side.conductor = before

    def gone(instance):
        before, side.conductor = side.conductor, True
        try:
            objects.Instance.get_by_uuid(admin, instance.uuid).destroy()
        finally:
            side.conductor = before

    def refuse():
        raise exception.NovaException("refused")

    def ran(work):
        # The result of work, the steps until then, the messages, and the state that is left.
        steps.clear(), messages.clear(), requests.clear()
        disturbed.number = 0
        try:
            told = work()
        except Exception as error:
            told = type(error).__name__.removesuffix("_Remote")
        disturbed.write = 0
        return {"result": told, "steps": list(steps), "messages": list(messages), "requests": list(requests), "left": state()}

    def doomed(compute):
        instance, disks = server()
        assert build(compute, instance, disks) == "active"
        elsewhere(instance, task_state=task_states.DELETING)
        before, side.conductor = side.conductor, True
        objects.InstanceAction.action_start(user, instance.uuid, "delete")
        found = objects.Instance.get_by_uuid(user, instance.uuid, expected_attrs=[
            "info_cache", "flavor", "system_metadata", "metadata", "numa_topology", "trusted_certs"])
        side.conductor = before
        return found, disks

    def build(compute, instance, disks):
        networks = objects.NetworkRequestList(objects=[objects.NetworkRequest(network_id=uuidutils.generate_uuid())])
        return compute._do_build_and_run_instance(user, instance, {}, None, {}, None, None, networks, None, disks, node="edge")

    def batched():
        from atoll.services.patches.nova import batched_claims, batches, batching_manager, build_disks, network_reads
        build_disks.install()
        batched_claims.install()
        batches.install()
        network_reads.networks_of_build = lambda *_arguments: None
        network_reads.ports_of_deletion = lambda *_arguments: None
        separate()
        return host(batching_manager.BatchingManager)

    def plain():
        separate()
        return host(recovering_manager.RecoveringManager)
"""
)
"""Code for `inside`: `plain()` and `batched()` return a manager; a process may call one of them."""
