"""Calls of a compute site that wait for one another, with Nova's real objects and database."""

import pytest
from compute_site import LAB
from upstream import inside

CALLS = (
    LAB
    + """
    compute = batched()
    from atoll.services.patches.nova import batches, batching_manager
    from atoll.services.patches.nova.batch_actions import BatchAction
    import nova.utils
    found = {}

    def claimed(instance):
        instance.host, instance.node, instance.compute_id = "edge", "edge", 1
        instance.save()

    def sent():
        done, messages[:] = list(messages), []
        return done

    def tried(name, work, **options):
        instance, disks = server()
        messages.clear()
        with batches.opened(instance.uuid, **options):
            found[name] = work(instance)
        found[name + ": sent"] = sent()
        gone(instance)

    def host(instance):
        before, side.conductor = side.conductor, True
        try:
            return objects.Instance.get_by_uuid(admin, instance.uuid).host
        finally:
            side.conductor = before

    def in_order(instance):
        objects.InstanceActionEvent.event_start(user, instance.uuid, "e", want_result=False)
        claimed(instance)
        before = [sent(), host(instance)]
        instance.task_state = task_states.NETWORKING
        instance.save(expected_task_state=[task_states.SCHEDULING])
        return [before, state()[0][1:3], [each[0] for each in state()[0][6]]]
    tried("in order", in_order)

    def by_effects(instance):
        told = []
        driver = [lambda: compute.driver.capabilities, lambda: compute.driver.power_off()]
        for effect in (lambda: http.get("/x"), lambda: http.post("/x"), *driver, lambda: compute.compute_task_api):
            instance.host = None
            claimed(instance)
            sent()
            effect()
            told.append(len(sent()))
            batches.flush()
        return told
    http.get, http.post = (lambda url, _m=method: http.request(url, _m) for method in ("GET", "POST"))
    tried("by effects", by_effects)

    def by_others(instance):
        told = []
        other, _ = server()
        def work(call, server_of_batch):
            def run():
                if server_of_batch:
                    with batches.opened(server_of_batch):
                        call()
                else:
                    call()
            claimed(instance)
            sent()
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
            told.append("Instance.save" in sent())
            batches.flush()
        list_all = lambda: objects.InstanceList.get_by_host(admin, "edge")
        show = lambda: objects.BlockDeviceMappingList.get_by_instance_uuid(user, other.uuid)
        for call, batch in ((list_all, None), (show, None), (list_all, other.uuid), (show, other.uuid), (show, instance.uuid)):
            work(call, batch)
        gone(other)
        return told
    tried("by others", by_others)

    def refused(instance):
        elsewhere(instance, task_state=task_states.DELETING)
        claimed(instance)
        instance.task_state = task_states.NETWORKING
        try:
            instance.save(expected_task_state=[None])
        except exception.UnexpectedDeletingTaskStateError:
            return [host(instance), state()[0][1]]
    tried("refused", refused)

    def not_saved(instance):
        claimed(instance)
        gone(instance)
        try:
            batches.flush()
        except exception.InstanceNotFound:
            return sorted(instance.obj_what_changed())
    instance, _ = server()
    with batches.opened(instance.uuid):
        found["not saved"] = not_saved(instance)

    def error_of_others(instance):
        claimed(instance)
        gone(instance)
        thread = threading.Thread(target=lambda: objects.InstanceList.get_by_host(admin, "edge"))
        thread.start()
        thread.join()
        try:
            batches.current().flush()
        except exception.InstanceNotFound:
            return "told"
    instance, _ = server()
    with batches.opened(instance.uuid):
        found["error of others"] = error_of_others(instance)

    def effects_after_an_error(instance):
        told = []
        for effect in (lambda: http.post("/x"), lambda: compute.driver.power_off(), lambda: compute.compute_task_api):
            instance.host = None
            claimed(instance)
            thread = threading.Thread(target=lambda: objects.InstanceList.get_by_host(admin, "edge"))
            thread.start()
            thread.join()
            try:
                told.append(effect())
            except exception.InstanceNotFound:
                told.append("told")
        return [str(each) for each in told]
    instance, _ = server()
    gone(instance)
    try:
        with batches.opened(instance.uuid):
            found["effects after an error"] = effects_after_an_error(instance)
    except exception.InstanceNotFound:
        pass

    arrived, go_on, perform = threading.Event(), threading.Event(), endpoint.object_actions
    def slowly(*arguments, **keywords):
        arrived.set()
        go_on.wait()
        return perform(*arguments, **keywords)

    def on_its_way(instance, first, second):
        # One thread has sent the batch, which the conductor has not performed yet, when another one goes on.
        arrived.clear(), go_on.clear()
        objects.InstanceActionEvent.event_start(user, instance.uuid, "e", want_result=False)
        claimed(instance)
        thread = threading.Thread(target=first, args=(batches.current(),))
        endpoint.object_actions = slowly
        thread.start()
        arrived.wait()
        endpoint.object_actions = perform
        threading.Timer(0.2, go_on.set).start()
        told = second()
        thread.join()
        return told

    def effect_on_its_way(instance):
        def effect(work):
            steps.clear()
            work()
            return steps[-1]
        posted = lambda: effect(lambda: http.post("/x"))
        return on_its_way(instance, lambda batch: objects.InstanceList.get_by_host(admin, "edge"), posted)[1][0][2]
    tried("effect on its way", effect_on_its_way)

    def read_on_its_way(instance):
        def own(batch):
            with batches.joined(batch):
                batches.flush()
        def listed():
            with batches.joined(None):
                return [each.uuid for each in objects.InstanceList.get_by_host(admin, "edge")]
        return on_its_way(instance, own, listed) == [instance.uuid]
    tried("read on its way", read_on_its_way)

    def created(instance):
        vif = objects.VirtualInterface(user, address="m", instance_uuid=instance.uuid, uuid=uuidutils.generate_uuid(), tag=None)
        vif.create()
        told = ["id" in vif, sent()]
        vif.destroy()
        return [*told, "id" in vif, state()[0][4]]
    tried("created", created)

    def ahead(instance):
        told = [objects.InstanceActionEvent.event_start(user, instance.uuid, "e", want_result=False)]
        instance.task_state = task_states.NETWORKING
        instance.save(expected_task_state=[task_states.SCHEDULING])
        told.append(sent())
        told.append([objects.Service.get_by_compute_host(admin, "edge").host, sent()])
        told.append([objects.Service.get_by_compute_host(admin, "edge").host, sent()])
        return told
    service = BatchAction.ahead(admin, "Service", "get_by_compute_host", "edge")
    tried("ahead", ahead, ahead=[service, BatchAction.ahead(admin, "Service", "get_by_id", 77)])

    def early(instance):
        objects.InstanceActionEvent.event_start(user, instance.uuid, "e", want_result=False)
        thread = threading.Thread(target=lambda: objects.InstanceList.get_by_host(admin, "edge"))
        thread.start()
        thread.join()
        told = sent()
        objects.Service.get_by_compute_host(admin, "edge")
        return [told, sent()]
    tried("early", early, ahead=[service])

    def forgotten(instance):
        instance.task_state = task_states.NETWORKING
        instance.save(expected_task_state=[task_states.SCHEDULING])
        batches.forget("Service.")
        sent()
        return [objects.Service.get_by_compute_host(admin, "edge").host, sent()]
    tried("forgotten", forgotten, ahead=[service])

    def locked(instance):
        told = [batching_manager.is_locked(instance.uuid)]
        nova.utils.synchronized(instance.uuid)(lambda: told.append(batching_manager.is_locked(instance.uuid)))()
        batches.current().prompt = True
        objects.InstanceActionEvent.event_start(user, instance.uuid, "e", want_result=False)
        return [*told, sent()]
    tried("locked", locked)

    def refreshed(instance):
        instance.info_cache.refresh()
        told = [sent()]
        ports = model.NetworkInfo([model.VIF(id="v")])
        thread = threading.Thread(target=lambda: compute.network_api.cached(user, objects.Instance(uuid=instance.uuid), ports))
        thread.start()
        thread.join()
        sent()
        instance.info_cache.refresh()
        return [*told, sent(), len(instance.info_cache.network_info)]
    tried("refreshed", refreshed, fresh_cache=True)

    def heartbeat(instance):
        before, side.conductor = side.conductor, True
        service = objects.Service.get_by_compute_host(admin, "edge")
        side.conductor = before
        def beaten():
            service.report_count += 1
            with batches.joined(None):
                service.save()
            return go_on.is_set()
        return on_its_way(instance, lambda batch: objects.InstanceList.get_by_host(admin, "edge"), beaten)
    tried("heartbeat", heartbeat)

    refusals.add("batches")
    tried("older conductor", in_order)
    refusals.clear()
    tell(found)
"""
)


@pytest.fixture(scope="module")
def calls():
    return inside(CALLS)


def test_calls_are_performed_in_their_order_by_one_message(calls):
    assert calls["in order"] == [[[], None], ["networking", "edge"], ["e"]]
    assert calls["in order: sent"] == ["object_actions"]


def test_calls_are_sent_before_effects_that_follow_them(calls):
    """In turn: a read and a write over HTTP, an attribute and a method of the driver, and another message."""
    assert calls["by effects"] == [0, 1, 0, 1, 1]


def test_other_threads_read_what_was_called_before(calls):
    """A batch of another server waits for none but that of lists."""
    assert calls["by others"] == [True, True, True, False, True]


def test_a_refused_save_raises_its_error_and_earlier_saves_are_kept(calls):
    assert calls["refused"] == ["edge", "deleting"]


def test_changes_that_were_not_saved_stay_unsaved(calls):
    assert {"compute_id", "host", "node"} <= set(calls["not saved"])


def test_the_thread_of_the_batch_gets_an_error_that_another_thread_met(calls):
    assert calls["error of others"] == "told"


def test_nothing_takes_effect_after_an_error_that_another_thread_met(calls):
    """In turn: a write over HTTP, a method of the driver, and another message."""
    assert calls["effects after an error"] == ["told", "told", "told"]


def test_effects_wait_for_a_batch_that_another_thread_has_sent(calls):
    assert calls["effect on its way"] == "edge"


def test_other_threads_wait_for_a_batch_that_is_on_its_way(calls):
    """Otherwise the audit of resources could miss a claim."""
    assert calls["read on its way"] is True


def test_a_heartbeat_waits_for_no_batch(calls):
    """Otherwise a lost message, for which its sender waits until a timeout, would have the host taken for dead."""
    assert calls["heartbeat"] is False


def test_an_object_that_is_created_later_is_known_when_it_is_used(calls):
    assert calls["created"] == [False, [], True, 0]


def test_what_will_be_needed_is_read_ahead_once(calls):
    """One of the two reads fails, which concerns nobody."""
    assert calls["ahead"] == [None, ["object_actions"], ["edge", []], ["edge", ["Service.get_by_compute_host"]]]


def test_nothing_is_read_ahead_when_another_thread_sends_the_batch(calls):
    """The thread of the batch may wait for a lock."""
    assert calls["early"] == [["InstanceActionEvent.event_start", "InstanceList.get_by_host"], ["Service.get_by_compute_host"]]


def test_a_deletion_that_waits_for_a_lock_has_begun_before(calls):
    """Otherwise the server's list of events would not have it while a build or another action goes on."""
    assert calls["locked"] == [False, True, ["InstanceActionEvent.event_start"]]


def test_what_was_read_ahead_is_read_again_after_a_change(calls):
    assert calls["forgotten"] == ["edge", ["Service.get_by_compute_host"]]


def test_network_information_is_refreshed_if_another_thread_has_changed_it(calls):
    assert calls["refreshed"] == [[], ["InstanceInfoCache.refresh"], 1]


def test_a_conductor_without_batches_gets_one_call_after_the_other(calls):
    assert calls["older conductor"] == [[[], None], ["networking", "edge"], ["e"]]
    assert calls["older conductor: sent"] == ["object_actions", "InstanceActionEvent.event_start", "Instance.save", "Instance.save"]
