"""ETSI MEC 010-2 3.1.1, life cycle management: every answer that it defines, as a client of a gateway sees it."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from edge_cloud import OWN, Ask, run
from gateway_cloud import Cloud
from hypothesis import given
from hypothesis import strategies as st
from test_edge_device_applications import with_application
from test_edge_management import DISK, OTHER, UNKNOWN
from test_edge_mobility import add_instance
from test_edge_packages import READER, add_reader

from atoll.gateway.edge.front import Question
from atoll.gateway.edge.instances import APP
from atoll.gateway.edge.launcher import Launcher
from atoll.gateway.edge.lifecycle import life_bodies, operations, store
from atoll.gateway.edge.lifecycle.life import DESCRIPTION, INSTANCE
from atoll.gateway.edge.problem import Problem
from atoll.gateway.edge.user_services import UserServices

ROOT = "/app_lcm/v1"
INSTANCES, DONE = "/app_instances", "/app_lcm_op_occs"
STOP = {"OperateAppRequest": {"changeStateTo": "STOPPED", "stopType": "GRACEFUL"}}
START = {"OperateAppRequest": {"changeStateTo": "STARTED"}}
FORCEFUL = {"TerminateAppRequest": {"terminationType": "FORCEFUL"}}


def graceful(wait_s: int) -> dict[str, Any]:
    return {"TerminateAppRequest": {"terminationType": "GRACEFUL", "gracefulTerminationTimeout": wait_s}}


def creation(**more: Any) -> dict[str, Any]:
    return {"CreateAppInstanceRequest": {"appDId": DISK, "appInstanceName": "map for crew 7"} | more}


def at(site: str, **more: Any) -> dict[str, Any]:
    return {"InstantiateAppRequest": {"selectedMECHostInfo": [{"hostName": site, "hostId": {"site": site}}]} | more}


def with_all(cloud: Cloud) -> None:
    with_application(cloud)
    add_reader(cloud)


async def created(ask: Ask, site: str = "brest", **more: Any) -> str:
    status, body, headers = await ask("POST", INSTANCES, creation(**more), site=site)
    assert status == 201
    assert headers["Location"] == body["AppInstanceInfo"]["_links"]["self"]["href"]
    return str(body["AppInstanceInfo"]["id"])


async def shown(ask: Ask, instance: str, site: str = "brest") -> dict[str, Any]:
    return dict((await ask("GET", f"{INSTANCES}/{instance}", site=site))[1]["AppInstanceInfo"])


async def occurrence(ask: Ask, headers: dict[str, str]) -> dict[str, Any]:
    return dict((await ask("GET", headers["Location"].partition(ROOT)[2]))[1]["AppLcmOpOcc"])


def test_life_of_an_instance(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        instance = await created(ask, appInstanceDescription="north")
        one = f"{INSTANCES}/{instance}"
        assert (await shown(ask, instance)) == {
            "id": instance,
            "appInstanceName": "map for crew 7",
            "appInstanceDescription": "north",
            "appDId": DISK,
            "appPkgId": DISK,
            "appProvider": "Forest_Watch",
            "appName": "fire_map",
            "appSoftVersion": "1.2",
            "appDVersion": "1.2",
            "instantiationState": "NOT_INSTANTIATED",
            "_links": {"self": {"href": base(cloud) + one}, "instantiate": {"href": f"{base(cloud)}{one}/instantiate"}},
        }
        assert (await ask("GET", one, site="pau"))[0] == 404, "an instance without a server is known where it was created"
        for path, body in (("operate", STOP), ("terminate", FORCEFUL)):
            assert (await ask("POST", f"{one}/{path}", body))[1]["detail"] == "the instance is not instantiated"
        status, _body, began = await ask("POST", f"{one}/instantiate", at("metz"))
        (server,) = cloud["metz"].services.servers.values()
        assert (status, server["name"], server["metadata"][INSTANCE]) == (202, "map for crew 7", instance)
        assert server["metadata"][DESCRIPTION] == "north"
        assert (await ask("POST", f"{one}/instantiate", at("metz")))[1]["detail"] == "the instance is instantiated already"
        found = await occurrence(ask, began)
        assert (found["lcmOperation"], found["operationState"]) == ("INSTANTIATE", "COMPLETED")
        assert found["operationParams"] == at("metz")["InstantiateAppRequest"]
        for site in ("brest", "pau"):
            running = await shown(ask, instance, site)
            assert (running["instantiationState"], running["instantiatedAppState"]) == ("INSTANTIATED", {"operationalState": "STARTED"})
            assert running["communicationInterface"] == {"ipAddresses": [{"host": "192.0.2.7", "port": 8443}]}
            assert running["appInstanceDescription"] == "north"
        assert (await ask("DELETE", one))[1]["detail"] == "the instance is instantiated: terminate it first"
        for body, operational, site in ((STOP, "STOPPED", "brest"), (START, "STARTED", "brest")):
            status, _body, headers = await ask("POST", f"{one}/operate", body)
            assert (status, (await occurrence(ask, headers))["operationState"]) == (202, "COMPLETED")
            assert (await shown(ask, instance, site))["instantiatedAppState"]["operationalState"] == operational
        status, _body, headers = await ask("POST", f"{one}/terminate", FORCEFUL)
        assert (status, (await occurrence(ask, headers))["operationState"]) == (202, "COMPLETED")
        assert cloud["metz"].services.servers == {}
        ended = await shown(ask, instance)
        assert (ended["instantiationState"], ended["appInstanceDescription"]) == ("NOT_INSTANTIATED", "north")
        assert [each["lcmOperation"] for each in (await ask("GET", DONE))[1]] == ["INSTANTIATE", "OPERATE", "OPERATE", "TERMINATE"]
        assert (await ask("POST", f"{one}/instantiate", at("pau")))[0] == 202, "once more"
        assert (await ask("POST", f"{one}/terminate", FORCEFUL, site="pau"))[0] == 202
        assert (await ask("DELETE", one, site="pau"))[0] == 204
        assert (await ask("GET", one, site="pau"))[0] == 404

    run(tmp_path, ROOT, test, prepare=with_application)


def base(cloud: Cloud) -> str:
    return f"http://127.0.0.1:{cloud['brest'].public_port}{ROOT}"


def test_servers_of_other_apis_are_instances(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        server = add_instance(cloud, "pau")
        await created(ask)
        add_instance(cloud, "pau", "p3")
        cloud["pau"].services.add_server("plain", "2026-01-01T00:00:00Z")
        found = (await ask("GET", INSTANCES, site="brest"))[1]
        assert sorted(each["instantiationState"] for each in found) == ["INSTANTIATED", "NOT_INSTANTIATED"]
        (running,) = (await ask("GET", f"{INSTANCES}?filter=(eq,instantiationState,INSTANTIATED)"))[1]
        assert running["id"] == server
        assert (await ask("POST", f"{INSTANCES}/{server}/terminate", FORCEFUL))[0] == 202
        assert server not in cloud["pau"].services.servers
        assert (await shown(ask, server))["instantiationState"] == "NOT_INSTANTIATED"
        foreign = add_instance(cloud, "metz", app=UNKNOWN)
        assert (await shown(ask, foreign))["appName"] == "unknown", "the application is gone"
        two = {"metadata": cloud["metz"].services.servers[foreign]["metadata"] | {INSTANCE: foreign}}
        add_instance(cloud, "metz", **two)
        assert len((await ask("GET", f"{INSTANCES}?filter=(eq,id,{foreign})"))[1]) == 1, "an id that the owner gave twice"

    run(tmp_path, ROOT, test, prepare=with_application)


def test_site_that_does_not_answer_is_no_missing_instance(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        instance = await created(ask)
        await ask("POST", f"{INSTANCES}/{instance}/instantiate", at("metz"))
        cloud.set_state("metz", "unreachable")
        assert (await ask("GET", INSTANCES))[2]["X-Atoll-Missing"] == "metz"
        for method, path, body in (("GET", "", None), ("DELETE", "", None), ("POST", "/instantiate", at("pau"))):
            assert (await ask(method, f"{INSTANCES}/{instance}{path}", body))[0] == 503
        assert len((await ask("GET", DONE))[1]) == 1
        assert cloud["pau"].services.servers == {}
        fresh = await created(ask)
        assert (await shown(ask, fresh))["instantiationState"] == "NOT_INSTANTIATED", "no site ever had a server of it"
        assert (await ask("POST", f"{INSTANCES}/{fresh}/instantiate", at("pau")))[0] == 202

    run(tmp_path, ROOT, test, prepare=with_application)


def test_graceful_termination_waits_for_the_guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        monkeypatch.setattr(operations, "LOOK_S", 0.01)
        servers = cloud["metz"].services.servers
        slow, deaf, stopped = add_instance(cloud, "metz"), add_instance(cloud, "metz"), add_instance(cloud, "metz", status="SHUTOFF")
        for each in (slow, deaf):
            servers[each]["OS-EXT-STS:task_state"] = "powering-off"
        _status, _body, began = await ask("POST", f"{INSTANCES}/{slow}/terminate", graceful(600))
        assert (servers[slow]["status"], (await occurrence(ask, began))["operationState"]) == ("SHUTOFF", "PROCESSING")
        status, said, _headers = await ask(
            "POST", f"{began['Location'].partition(ROOT)[2]}/cancel", {"CancelMode": {"CancelMode": "FORCED"}}
        )
        assert (status, said["detail"]) == (403, "the operation can't be cancelled: terminate the instance")
        assert (await ask("POST", f"{INSTANCES}/{slow}/terminate", graceful(1)))[0] == 403
        await ask("POST", f"{INSTANCES}/{deaf}/terminate", graceful(1))
        await ask("POST", f"{INSTANCES}/{stopped}/terminate", graceful(600))
        assert stopped not in servers, "there is nothing to wait for"
        servers[slow]["OS-EXT-STS:task_state"] = None
        async with asyncio.timeout(20):
            while servers:
                await asyncio.sleep(0.01)
        assert (await occurrence(ask, began))["operationState"] == "COMPLETED"
        fading = add_instance(cloud, "metz")
        _status, _body, fades = await ask("POST", f"{INSTANCES}/{fading}/terminate", FORCEFUL)
        add = {"status": "DELETED", "OS-EXT-STS:task_state": None}  # as Nova shows a deleted server for a moment
        servers[fading] = {"id": fading, "name": "x", "created": "2026", "tenant_id": "p1", "metadata": {APP: DISK}} | add
        assert (await occurrence(ask, fades))["operationState"] == "COMPLETED"
        assert (await shown(ask, fading))["instantiationState"] == "NOT_INSTANTIATED"
        status, said, _headers = await ask("POST", f"{began['Location'].partition(ROOT)[2]}/retry", {})
        assert (status, said["detail"]) == (403, "the operation has ended, and is not in FAILED_TEMP")

    run(tmp_path, ROOT, test, prepare=with_application)


def test_states_of_operations(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        instance = await created(ask)
        _status, _body, began = await ask("POST", f"{INSTANCES}/{instance}/instantiate", at("brest"))
        (server,) = cloud["brest"].services.servers.values()
        for status, task, expected in (("BUILD", "spawning", "PROCESSING"), ("BUILD", None, "PROCESSING"), ("ERROR", None, "FAILED")):
            server |= {"status": status, "OS-EXT-STS:task_state": task}
            assert (await occurrence(ask, began))["operationState"] == expected
        server["status"] = "ACTIVE"
        assert (await occurrence(ask, began))["operationState"] == "FAILED", "an end is final"
        assert (await shown(ask, instance))["instantiatedAppState"]["operationalState"] == "STARTED"
        _status, _body, stopped = await ask("POST", f"{INSTANCES}/{instance}/operate", STOP)
        server["status"] = "ACTIVE"
        assert (await occurrence(ask, stopped))["operationState"] == "FAILED"
        assert len((await ask("GET", f"{DONE}?filter=(eq,operationState,FAILED)"))[1]) == 2
        assert (await ask("GET", f"{DONE}?filter=(eq,operationState,COMPLETED)"))[1] == []

    run(tmp_path, ROOT, test, prepare=with_application)


def test_stranger_and_reader(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        idle, running = await created(ask), add_instance(cloud, "metz")
        plain = cloud["metz"].services.add_server("db", "2026-01-01T00:00:00Z")
        _status, _body, began = await ask("POST", f"{INSTANCES}/{running}/operate", STOP)
        done = began["Location"].partition(ROOT)[2]
        before = json.dumps(cloud["metz"].services.servers, sort_keys=True)
        details = set()
        for each in (idle, running, plain, UNKNOWN):
            one = f"{INSTANCES}/{each}"
            for method, target, body in (
                ("GET", one, None),
                ("DELETE", one, None),
                ("POST", f"{one}/instantiate", at("metz")),
                ("POST", f"{one}/operate", STOP),
                ("POST", f"{one}/terminate", FORCEFUL),
                ("POST", f"{one}/configure_platform_for_app", {}),
            ):
                status, said, _headers = await ask(method, target, body, headers=OTHER)
                details.add((status, said["detail"]))
        assert len(details) == 1, "the same for all"
        assert details.pop()[0] == 404
        for target in (done, f"{DONE}/{UNKNOWN}"):
            assert (await ask("GET", target, headers=OTHER))[0] == 404
            assert (await ask("POST", f"{target}/cancel", {}, headers=OTHER))[0] == 404
        assert (await ask("GET", DONE, headers=OTHER))[1] == []
        assert (await ask("GET", INSTANCES, headers=OTHER))[1] == []
        assert (await ask("POST", INSTANCES, creation(), headers=OTHER))[1]["detail"] == "there is no such application"
        for method, target, body in (
            ("POST", INSTANCES, creation()),
            ("DELETE", f"{INSTANCES}/{idle}", None),
            ("POST", f"{INSTANCES}/{idle}/instantiate", at("metz")),
            ("POST", f"{INSTANCES}/{running}/operate", START),
            ("POST", f"{INSTANCES}/{running}/terminate", FORCEFUL),
            ("POST", f"{INSTANCES}/{running}/terminate", graceful(1)),
        ):
            assert (await ask(method, target, body, headers=READER))[0] == 403, (method, target)
        assert (await ask("GET", f"{INSTANCES}/{running}", headers=READER))[0] == 200
        assert len((await ask("GET", DONE, headers=READER))[1]) == 1
        assert json.dumps(cloud["metz"].services.servers, sort_keys=True) == before
        assert (await shown(ask, idle))["instantiationState"] == "NOT_INSTANTIATED"

    run(tmp_path, ROOT, test, prepare=with_all)


def test_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        monkeypatch.setattr(store, "MOST_OF_PROJECT", 2)
        instance = await created(ask)
        await created(ask)
        assert (await ask("POST", INSTANCES, creation()))[1]["title"] == "QUOTA_EXCEEDED"
        await ask("POST", f"{INSTANCES}/{instance}/instantiate", at("brest"))
        await created(ask)
        assert (await ask("POST", f"{INSTANCES}/{instance}/terminate", FORCEFUL))[0] == 202
        assert len((await ask("GET", INSTANCES))[1]) == 3, "a terminated instance does not vanish"
        for _ in range(2):
            await ask("POST", f"{INSTANCES}/{add_instance(cloud, 'brest')}/operate", STOP)
        assert [each["lcmOperation"] for each in (await ask("GET", DONE))[1]] == ["OPERATE", "OPERATE"]
        monkeypatch.setattr(operations, "MOST_WAITING", 0)
        running = add_instance(cloud, "brest")
        assert (await ask("POST", f"{INSTANCES}/{running}/terminate", graceful(9)))[1]["title"] == "TOO_MANY_REQUESTS"

    run(tmp_path, ROOT, test, prepare=with_application)


def test_terminations_of_one_project_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        monkeypatch.setattr(store, "MOST_LEFT", 1)
        first, second = add_instance(cloud, "brest"), add_instance(cloud, "brest")
        assert (await ask("POST", f"{INSTANCES}/{first}/terminate", FORCEFUL))[0] == 202
        assert (await ask("POST", f"{INSTANCES}/{second}/terminate", FORCEFUL))[1]["title"] == "QUOTA_EXCEEDED"
        assert set(cloud["brest"].services.servers) == {second}
        assert (await ask("DELETE", f"{INSTANCES}/{first}"))[0] == 204
        assert (await ask("POST", f"{INSTANCES}/{second}/terminate", FORCEFUL))[0] == 202

    run(tmp_path, ROOT, test, prepare=with_application)


def test_another_project_takes_no_identifier(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        instance = await created(ask)
        one = f"{INSTANCES}/{instance}"
        assert (await ask("POST", f"{one}/instantiate", at("metz")))[0] == 202
        forged = add_instance(cloud, "brest", "p3", metadata={APP: DISK, INSTANCE: instance})
        assert (await ask("POST", f"{one}/terminate", FORCEFUL, headers=OTHER))[0] == 202
        assert forged not in cloud["brest"].services.servers
        assert (await ask("POST", f"{one}/terminate", FORCEFUL))[0] == 202
        assert (await ask("DELETE", one, headers=OTHER))[0] == 204
        assert (await shown(ask, instance))["instantiationState"] == "NOT_INSTANTIATED"

    run(tmp_path, ROOT, test, prepare=with_application)


def test_deletion_waits_for_an_instantiation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        one = f"{INSTANCES}/{await created(ask)}"
        begun, go, start = asyncio.Event(), asyncio.Event(), Launcher.start

        async def slow(*given: Any) -> str:
            begun.set()
            await go.wait()
            return await start(*given)

        monkeypatch.setattr(Launcher, "start", slow)
        starting = asyncio.create_task(ask("POST", f"{one}/instantiate", at("metz")))
        await begun.wait()
        deleting = asyncio.create_task(ask("DELETE", one))
        await asyncio.wait({deleting}, timeout=0.2)
        go.set()
        assert (await starting)[0] == 202
        assert (await deleting)[1]["detail"] == "the instance is instantiated: terminate it first"

    run(tmp_path, ROOT, test, prepare=with_application)


def test_site_that_was_cut_off_during_a_termination_may_have_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        monkeypatch.setattr(operations, "LOOK_S", 0.01)
        instance = await created(ask)
        one = f"{INSTANCES}/{instance}"
        await ask("POST", f"{one}/instantiate", at("metz"))
        (server,) = cloud["metz"].services.servers.values()
        server["OS-EXT-STS:task_state"] = "powering-off"
        _status, _body, began = await ask("POST", f"{one}/terminate", graceful(600))
        cloud.set_state("metz", "unreachable")
        assert (await ask("POST", f"{one}/instantiate", at("pau")))[0] == 503
        assert cloud["pau"].services.servers == {}
        await asyncio.sleep(0.05)
        cloud.set_state("metz", "alive")
        server["OS-EXT-STS:task_state"] = None
        async with asyncio.timeout(20):
            while cloud["metz"].services.servers:
                await asyncio.sleep(0.01)
        assert (await occurrence(ask, began))["operationState"] == "COMPLETED", "a short cut ends no wait"
        cloud.set_state("metz", "unreachable")
        assert (await ask("POST", f"{one}/instantiate", at("pau")))[0] == 202, "the deletion was accepted"

    run(tmp_path, ROOT, test, prepare=with_application)


def test_list_of_operations_asks_for_no_single_server(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        running = [add_instance(cloud, "metz") for _ in range(3)]
        for each in running:
            assert (await ask("POST", f"{INSTANCES}/{each}/operate", STOP))[0] == 202
            cloud["metz"].services.servers[each]["OS-EXT-STS:task_state"] = "powering-off"
        asked: list[str] = []
        for site in ("brest", "metz", "pau"):
            cloud[site].services.refuse = lambda request: asked.append(request.path)
        assert [each["operationState"] for each in (await ask("GET", DONE))[1]] == ["PROCESSING"] * 3
        assert not [path for path in asked if any(each in path for each in running)]
        cloud["metz"].services.servers[running[0]]["OS-EXT-STS:task_state"] = None
        del cloud["metz"].services.servers[running[1]]
        assert [each["operationState"] for each in (await ask("GET", DONE))[1]] == ["COMPLETED", "FAILED", "PROCESSING"]

    run(tmp_path, ROOT, test, prepare=with_application)


def test_guests_of_one_project_occupy_not_all_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        monkeypatch.setattr(operations, "MOST_OF_PROJECT", 1)
        mine, more, other = add_instance(cloud, "metz"), add_instance(cloud, "metz"), add_instance(cloud, "metz", "p3")
        for server, headers, expected in ((mine, OWN, 202), (more, OWN, 429), (other, OTHER, 202)):
            cloud["metz"].services.servers[server]["OS-EXT-STS:task_state"] = "powering-off"
            assert (await ask("POST", f"{INSTANCES}/{server}/terminate", graceful(600), headers=headers))[0] == expected
        assert cloud["metz"].services.servers[more]["status"] == "ACTIVE"
        assert (await shown(ask, more))["instantiationState"] == "INSTANTIATED"

    run(tmp_path, ROOT, test, prepare=with_application)


ERRORS: tuple[tuple[int, str, dict[str, Any]], ...] = (
    (400, "INVALID_ARGUMENT", {"body": {}}),
    (400, "INVALID_ARGUMENT", {"body": creation(more=1)}),
    (400, "INVALID_ARGUMENT", {"body": creation(appInstanceName="")}),
    (404, "NOT_FOUND", {"body": creation(appDId="x")}),
    (404, "NOT_FOUND", {"body": creation(appDId=UNKNOWN)}),
    (400, "INVALID_ARGUMENT", {"body": creation(appPlacementInfo={"mepId": "m"})}),
    (404, "NOT_FOUND", {"path": "/{}/instantiate", "body": at("nowhere")}),
    (400, "INVALID_ARGUMENT", {"path": "/{}/instantiate", "body": {"InstantiateAppRequest": {}}}),
    (400, "INVALID_ARGUMENT", {"path": "/{}/instantiate", "body": {"InstantiateAppRequest": {"selectedMECHostInfo": [{"hostId": {}}]}}}),
    (400, "INVALID_ARGUMENT", {"path": "/{}/instantiate", "body": at("metz", selectedMECHostInfo=[{"hostId": {"rack": "7"}}])}),
    (
        400,
        "INVALID_ARGUMENT",
        {"path": "/{}/instantiate", "body": at("x", selectedMECHostInfo=[{"hostName": "a", "hostId": {"site": "b"}}])},
    ),
    (501, "NOT_IMPLEMENTED", {"path": "/{}/instantiate", "body": at("metz", vimConnectionInfo=[])}),
    (400, "INVALID_ARGUMENT", {"path": "/{}/instantiate", "body": at("metz"), "headers": OWN | {"X-Atoll-Network": "x"}}),
    (400, "INVALID_ARGUMENT", {"path": "/{}/operate", "body": {"OperateAppRequest": {"changeStateTo": "STARTED", "stopType": "FORCEFUL"}}}),
    (400, "INVALID_ARGUMENT", {"path": "/{}/terminate", "body": {"TerminateAppRequest": {"terminationType": "SOON"}}}),
    (400, "INVALID_ARGUMENT", {"path": "/{}/terminate", "body": graceful(3601)}),
    (501, "NOT_IMPLEMENTED", {"path": "/{}/configure_platform_for_app", "body": {}}),
    (405, "METHOD_NOT_ALLOWED", {"method": "PUT"}),
    (404, "NOT_FOUND", {"method": "GET", "path": "/x"}),
    (415, "UNSUPPORTED_MEDIA_TYPE", {"data": b"{}", "headers": OWN | {"Content-Type": "text/plain"}}),
)


def test_errors_of_the_standard(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        instance = await created(ask)
        for status, title, request in ERRORS:
            path = f"{INSTANCES}{request.get('path', '')}".replace("{}", instance)
            answered = await ask(**{"method": "POST"} | request | {"path": path})
            assert (answered[0], answered[1]["title"]) == (status, title), request
        assert (await ask("POST", "/subscriptions", {}))[0] == 501
        links = (await ask("GET", "/subscriptions?subscriptiontype=x"))[1]["AppInstanceSubscriptionLinkList"]["_links"]
        assert links["subscriptions"] == []
        assert all(cloud[site].services.servers == {} for site in ("brest", "metz", "pau"))

    run(tmp_path, ROOT, test, prepare=with_application)


def test_refusals_of_nova_leave_the_instance(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        instance = await created(ask)
        before = cloud["brest"].services.refuse
        cloud["brest"].services.refuse = lambda request: (
            web.json_response({"forbidden": {"code": 403, "message": "Quota exceeded for cores"}}, status=403)
            if request.method == "POST" and "/servers" in request.path
            else before(request)
        )
        assert (await ask("POST", f"{INSTANCES}/{instance}/instantiate", at("brest")))[1]["title"] == "QUOTA_EXCEEDED"
        assert (await shown(ask, instance))["instantiationState"] == "NOT_INSTANTIATED"
        assert (await ask("GET", DONE))[1] == []

    run(tmp_path, ROOT, test, prepare=with_application)


def test_server_that_is_deleted_while_nova_answers_is_no_failure() -> None:
    class Services:
        async def show(self, *_given: Any) -> dict[str, Any]:
            work._waiting.clear()  # the guest has stopped, and the server is deleted
            return {"status": "SHUTOFF", "OS-EXT-STS:task_state": None}

    services, question, task = Services(), cast("Question", None), cast("asyncio.Task[None]", None)
    work = operations.Operations(cast("UserServices", services), store.Store(":memory:"))
    work._waiting["s"] = task
    ending = store.LifeOperation("o", "p", "i", "s", store.OperationKind.TERMINATE, 0.0, 0.0)
    assert asyncio.run(work.seen(question, ending)).state is store.State.PROCESSING
    assert asyncio.run(work.seen(question, ending)).state is store.State.FAILED, "the gateway was restarted: nobody deletes the server"


def test_gateway_keeps_identifiers_and_operations(tmp_path: Path) -> None:
    kept = store.Store(tmp_path / "life-cycle.db")
    identifier = store.IdleInstance("i", "p", "a", "n", "d")
    kept.add(identifier)
    kept.begin(store.LifeOperation("o", "p", "i", "s", store.OperationKind.STOP, 1.5, 1.5, parameters={"a": 1}))
    kept.close()
    again = store.Store(tmp_path / "life-cycle.db")
    assert again.identifiers("p") == [identifier]
    assert again.identifier("i", "q") is None
    ended = again.end(again.operations("p")[0], store.State.FAILED, 2.5)
    assert again.operation("o", "p") == ended
    assert again.operation("o", "q") is None
    again.close()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(value=_JSON)
def test_any_value_is_accepted_or_refused(value: Any) -> None:
    host = {"selectedMECHostInfo": [{"hostId": value}]}
    for parse, name, inner in (
        (life_bodies.wanted, "CreateAppInstanceRequest", {"appDId": value}),
        (life_bodies.starts, "OperateAppRequest", value),
        (life_bodies.termination_of, "TerminateAppRequest", value),
        (lambda body: life_bodies.site_of(body, ["a"]), "InstantiateAppRequest", host),
        (lambda body: life_bodies.site_of(body, ["a"]), "InstantiateAppRequest", value),
    ):
        with suppress(Problem):
            parse(json.dumps({name: inner}).encode())


@pytest.mark.parametrize("site", [[], {}, 1])
def test_site_is_a_text(site: Any) -> None:
    body = {"InstantiateAppRequest": {"selectedMECHostInfo": [{"hostName": "a", "hostId": {"site": site}}]}}
    with pytest.raises(Problem):
        life_bodies.site_of(json.dumps(body).encode(), ["a"])
