"""ETSI MEC 021 2.2.1, the application mobility service: every answer that it defines, and its notifications, as clients see them."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import pytest
from camara_contract import NOTIFICATION, check_structure
from edge_cloud import OWN, Ask, run
from gateway_cloud import Cloud
from hypothesis import given
from hypothesis import strategies as st
from test_edge_device_applications import ADDRESSES
from test_edge_management import DISK, OTHER, UNKNOWN

from atoll.gateway.edge import Status
from atoll.gateway.edge.instances import APP, APP_PORT
from atoll.gateway.edge.mobility import api, events, sockets, subscriptions
from atoll.gateway.edge.mobility.events import MobilityEvent
from atoll.gateway.edge.mobility.registrations import DEVICE, REGISTERED, Consent, after_move, consent, registration_of, wanted
from atoll.gateway.edge.problem import Problem
from atoll.gateway.edge.user_services import UserServices
from atoll.gateway.request.call import to_gateway
from atoll.gateway.request.target import Refused

if TYPE_CHECKING:
    from atoll.gateway.sites import Sites

ROOT = "/amsi/v1"
READER = {"X-Auth-Token": "reader"}
INSTANCE = "15a0ce00-0000-4000-8000-000000000001"
SERVICES, SUBSCRIPTIONS = "/app_mobility_services", "/subscriptions"


def with_reader(cloud: Cloud) -> None:
    for site in ("brest", "metz", "pau"):
        cloud[site].services.people["reader"] = ("p1", ("reader",))


def add_instance(cloud: Cloud, site: str, project: str = "p1", app: str = DISK, **more: Any) -> str:
    services = cloud[site].services
    key = services.add_server("fire_map", "2026-01-01T00:00:00Z", project)
    metadata = {APP: app, f"{APP_PORT}tiles": "8443"}
    services.servers[key] |= {"metadata": metadata, "addresses": ADDRESSES, "OS-EXT-AZ:availability_zone": site} | more
    return key


def device(name: str = "phone-1", level: int = 0, state: int | None = None) -> dict[str, Any]:
    shown: dict[str, Any] = {"associateId": name}
    if level:
        shown["appMobilityServiceLevel"] = {"appMobilityServiceLevel": level}
    return shown if state is None else shown | {"contextTransferState": state}


def info(instance: str, *devices: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"RegistrationInfo": {"serviceConsumerId": {"appInstanceId": instance}, "deviceInformation": list(devices)} | more}


def subscription(**more: Any) -> dict[str, Any]:
    fields = {
        "subscriptionType": "MobilityProcedureSubscription",
        "websockNotifConfig": {"requestWebsocketUri": True},
        "filterCriteria": {},
    }
    return {"MobilityProcedureSubscription": fields | more}


def test_registration_is_kept_with_the_server_and_known_at_every_site(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        server = add_instance(cloud, "metz")
        status, body, headers = await ask("POST", SERVICES, info(server, device(level=2), device("x" * 100)))
        assert status == 201
        assert headers["Location"].endswith(f"{ROOT}{SERVICES}/{server}")
        registered = body["RegistrationInfo"]
        assert registered == {
            "appMobilityServiceId": server,
            "serviceConsumerId": {"appInstanceId": server},
            "deviceInformation": [device(level=2, state=0), device("x" * 100, state=0)],
            "expiryTime": 0,
        }
        one = f"{SERVICES}/{server}"
        for site in ("brest", "metz", "pau"):
            assert (await ask("GET", one, site=site))[1]["RegistrationInfo"] == registered
            assert (await ask("GET", SERVICES, site=site))[1] == [registered]
        assert (await ask("POST", SERVICES, info(server)))[1]["title"] == "PERMISSION_DENIED", "it is registered"
        status, body, _headers = await ask("PUT", one, info(server, device(level=2, state=1)), site="pau")
        assert (status, body["RegistrationInfo"]["deviceInformation"]) == (200, [device(level=2, state=1)])
        assert f"{DEVICE}1" not in cloud["metz"].services.servers[server]["metadata"], "the second device is gone"
        assert (await ask("DELETE", one))[0] == 204
        assert cloud["metz"].services.servers[server]["metadata"].keys() == {APP, f"{APP_PORT}tiles"}
        assert (await ask("GET", one))[0] == 404

    run(tmp_path, ROOT, test)


def test_registration_ends_with_its_time(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        timed, lasting = add_instance(cloud, "brest"), add_instance(cloud, "brest")
        await ask("POST", SERVICES, info(timed, expiryTime=60))
        await ask("POST", SERVICES, info(lasting))
        assert (await ask("POST", f"{SERVICES}/{timed}/deregister_task"))[0] == 204
        assert (await ask("POST", f"{SERVICES}/{lasting}/deregister_task"))[0] == 403, "no timer"
        metadata = cloud["brest"].services.servers[timed]["metadata"]
        metadata[REGISTERED] = json.dumps({"expiry": 60, "until": time.time() - 1})
        assert (await ask("GET", f"{SERVICES}/{timed}"))[0] == 404
        assert [each["appMobilityServiceId"] for each in (await ask("GET", SERVICES))[1]] == [lasting]
        assert (await ask("POST", SERVICES, info(timed)))[0] == 201

    run(tmp_path, ROOT, test)


def test_filters_of_lists(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        first, second = add_instance(cloud, "brest"), add_instance(cloud, "metz")
        await ask("POST", SERVICES, info(first, device("a"), expiryTime=60))
        await ask("POST", SERVICES, info(second, device("b", 3)))
        for text, found in (
            (f"(eq,appMobilityServiceId,{first})", [first]),
            (f"(neq,serviceConsumerId/appInstanceId,{first})", [second]),
            ("(in,deviceInformation/associateId,b,c)", [second]),
            ("(gte,expiryTime,60)", [first]),
            ("(eq,deviceInformation/appMobilityServiceLevel/appMobilityServiceLevel,3);(lt,expiryTime,60)", [second]),
            ("(cont,deviceInformation/associateId,z)", []),
            ("(gt,expiryTime,x)", []),
            ("(eq,no,thing)", []),
        ):
            body = (await ask("GET", f"{SERVICES}?filter={text}"))[1]
            assert [each["appMobilityServiceId"] for each in body] == found, text
        for query in (
            "filter=",
            "filter=(eq,a)",
            "filter=(is,a,b)",
            "filter=(eq,a,b,c)",
            "fields=a&exclude_fields=b",
            "x=1",
            "filter=a&filter=b",
        ):
            assert (await ask("GET", f"{SERVICES}?{query}"))[1]["title"] == "INVALID_ARGUMENT", query
        (shown, _other) = (await ask("GET", f"{SERVICES}?exclude_fields=deviceInformation"))[1]
        assert shown.keys() == {"appMobilityServiceId", "serviceConsumerId", "expiryTime"}
        cloud.set_state("metz", "unreachable")
        assert (await ask("GET", SERVICES))[2]["X-Atoll-Missing"] == "metz"

    run(tmp_path, ROOT, test)


def test_adjacent_instances_are_those_of_the_same_application_at_other_sites(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        own, same_site = add_instance(cloud, "brest"), add_instance(cloud, "brest")
        far, near = add_instance(cloud, "metz"), add_instance(cloud, "pau")
        add_instance(cloud, "pau", app=UNKNOWN)
        add_instance(cloud, "pau", status="BUILD")
        add_instance(cloud, "pau", project="p3")
        path = "/queries/adjacent_app_instances"
        assert (await ask("GET", path))[1] == [], "nothing is registered"
        await ask("POST", SERVICES, info(own, device()))
        found = (await ask("GET", path, site="metz"))[1]
        assert [each["appInstanceId"] for each in found] == [near, far], "the nearest first"
        assert found[0] == {
            "appInstanceId": near,
            "appDId": DISK,
            "appInstanceCommLink": [{"ipAddresses": [{"host": "192.0.2.7", "port": 8443}]}],
            "mecHostInformation": {"hostName": "pau", "hostId": {"site": "pau"}},
            "registeredInstanceId": own,
        }
        assert len((await ask("GET", f"{path}?filter=(eq,mecHostInformation/hostName,metz)"))[1]) == 1
        assert (await ask("GET", path, headers=OTHER))[1] == []
        await ask("POST", SERVICES, info(same_site))
        assert len((await ask("GET", path))[1]) == 4
        of_own = f"(eq,registeredInstanceId,{own})"
        for conditions, expected in (
            (of_own, [(own, near), (own, far)]),
            (f"(eq,mecHostInformation/hostName,pau);{of_own}", [(own, near)]),
            (f"(neq,registeredInstanceId,{own});(neq,appInstanceId,{near})", [(same_site, far)]),
            ("(eq,appInstanceCommLink/ipAddresses/port,8444)", []),
        ):
            found = (await ask("GET", f"{path}?filter={conditions}"))[1]
            assert [(each["registeredInstanceId"], each["appInstanceId"]) for each in found] == expected, conditions

    run(tmp_path, ROOT, test)


def test_adjacent_instances_are_compared_with_the_filter_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count, compared = 60, []
    meets = api.meets
    monkeypatch.setattr(api, "MOST_ADJACENT", 5)
    monkeypatch.setattr(api, "meets", lambda item, conditions: compared.append(item) or meets(item, conditions))

    async def test(cloud: Cloud, ask: Ask) -> None:
        for _ in range(count):
            own = add_instance(cloud, "brest")
            cloud["brest"].services.servers[own]["metadata"] |= {"atoll_mobility": '{"expiry":0,"until":0}'}
            near = add_instance(cloud, "pau")
        path = "/queries/adjacent_app_instances"
        status, said, _headers = await ask("GET", path)
        assert (status, said["detail"]) == (400, "the answer has more than 5 items: expected a filter that at most 5 pass")
        compared.clear()
        found = (await ask("GET", f"{path}?filter=(eq,appInstanceId,{near});(eq,registeredInstanceId,{own})"))[1]
        assert [(each["registeredInstanceId"], each["appInstanceId"]) for each in found] == [(own, near)]
        assert len(compared) <= 3 * count, "not one for each of the 3600 pairs"
        assert (await ask("GET", f"{path}?filter=(eq,appInstanceId,{UNKNOWN})"))[1] == []

    run(tmp_path, ROOT, test)


def test_stranger_and_reader(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        server, plain = add_instance(cloud, "metz"), cloud["metz"].services.add_server("db", "2026-01-01T00:00:00Z")
        await ask("POST", SERVICES, info(server, device()))
        held = (await ask("POST", SUBSCRIPTIONS, subscription()))[1]["MobilityProcedureSubscription"]
        one, watched = f"{SERVICES}/{server}", held["_links"]["self"]["href"].partition(ROOT)[2]
        before = json.dumps(cloud["metz"].services.servers, sort_keys=True)
        for target in (one, f"{SERVICES}/{UNKNOWN}", f"{SERVICES}/{plain}"):
            for method, body in (("GET", None), ("PUT", info(target.rpartition("/")[2])), ("DELETE", None)):
                status, said, _headers = await ask(method, target, body, headers=OTHER)
                assert (status, said["detail"]) == (404, "there is no such application mobility service"), "the same for all"
        for instance in (server, UNKNOWN, plain):
            status, said, _headers = await ask("POST", SERVICES, info(instance), headers=OTHER)
            assert (status, said["detail"]) == (404, "there is no such application instance")
        assert (await ask("GET", SERVICES, headers=OTHER))[1] == []
        for method, body in (("GET", None), ("PUT", subscription()), ("DELETE", None)):
            assert (await ask(method, watched, body, headers=OTHER))[0] == 404
        assert (await ask("GET", SUBSCRIPTIONS, headers=OTHER))[1]["SubscriptionLinkList"]["_links"]["subscription"] == []
        for method, target, body in (
            ("POST", SERVICES, info(add_instance(cloud, "metz"))),
            ("PUT", one, info(server)),
            ("DELETE", one, None),
            ("POST", SUBSCRIPTIONS, subscription()),
            ("PUT", watched, subscription()),
            ("DELETE", watched, None),
            ("GET", f"{watched}/websocket", None),  # would end the WebSocket of another client, and take its notifications
        ):
            assert (await ask(method, target, body, headers=READER))[0] == 403, (method, target)
        assert (await ask("GET", one, headers=READER))[0] == 200
        assert (await ask("GET", watched, headers=READER))[0] == 200
        assert (await ask("GET", SERVICES, headers={}))[0] == 401
        del cloud["metz"].services.servers[list(cloud["metz"].services.servers)[-1]]
        assert json.dumps(cloud["metz"].services.servers, sort_keys=True) == before

    run(tmp_path, ROOT, test, prepare=with_reader)


def test_subscriptions(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        callback = subscription(callbackReference="http://10.0.0.1/x")
        status, body, headers = await ask("POST", SUBSCRIPTIONS, callback)
        shown = body["MobilityProcedureSubscription"]
        assert (status, shown["filterCriteria"]) == (201, {"associateId": [], "mobilityStatus": [1]})
        assert headers["Location"] == shown["_links"]["self"]["href"]
        assert "callbackReference" not in shown, "of both, the WebSocket is chosen"
        one = headers["Location"].partition(ROOT)[2]
        assert (await ask("GET", one))[1] == body
        links = (await ask("GET", f"{SUBSCRIPTIONS}?subscriptiontype=mobility_proc"))[1]["SubscriptionLinkList"]["_links"]["subscription"]
        assert links == [{"href": headers["Location"], "subscriptionType": "MobilityProcedureSubscription"}]
        adjacent = (await ask("GET", f"{SUBSCRIPTIONS}?subscriptiontype=adj_app_info"))[1]
        assert adjacent["SubscriptionLinkList"]["_links"]["subscription"] == []
        criteria = {"appInstanceId": INSTANCE, "associateId": ["a"], "mobilityStatus": [2, 3]}
        deadline = {"seconds": int(time.time()) + 60, "nanoSeconds": 5}
        changed = shown | {"filterCriteria": criteria, "expiryDeadline": deadline}
        status, body, _headers = await ask("PUT", one, {"MobilityProcedureSubscription": changed})
        assert (status, body["MobilityProcedureSubscription"]) == (200, changed)
        assert (await ask("GET", one, site="metz"))[0] == 404, "each site has its own"
        assert (await ask("DELETE", one))[0] == 204
        assert (await ask("GET", one))[0] == 404
        soon = subscription(expiryDeadline={"seconds": int(time.time()) + 1, "nanoSeconds": 0})
        await ask("POST", SUBSCRIPTIONS, soon)
        await asyncio.sleep(1.1)
        assert (await ask("GET", SUBSCRIPTIONS))[1]["SubscriptionLinkList"]["_links"]["subscription"] == []
        for _ in range(subscriptions.MOST_OF_PROJECT):
            assert (await ask("POST", SUBSCRIPTIONS, subscription()))[0] == 201
        assert (await ask("POST", SUBSCRIPTIONS, subscription()))[1]["title"] == "QUOTA_EXCEEDED"
        assert (await ask("POST", SUBSCRIPTIONS, subscription(), headers=OTHER))[0] == 201

    run(tmp_path, ROOT, test)


ERRORS: tuple[tuple[int, str, dict[str, Any]], ...] = (
    (400, "INVALID_ARGUMENT", {"body": {}}),
    (400, "INVALID_ARGUMENT", {"body": info(INSTANCE, more=1)}),
    (400, "INVALID_ARGUMENT", {"body": info("x")}),
    (400, "INVALID_ARGUMENT", {"body": info(INSTANCE, appMobilityServiceId=INSTANCE)}),
    (400, "INVALID_ARGUMENT", {"body": info(INSTANCE, device(), device())}),
    (400, "INVALID_ARGUMENT", {"body": info(INSTANCE, device("x" * 101))}),
    (400, "INVALID_ARGUMENT", {"body": info(INSTANCE, device(level=4))}),
    (400, "INVALID_ARGUMENT", {"body": info(INSTANCE, *(device(str(number)) for number in range(17)))}),
    (400, "INVALID_ARGUMENT", {"body": info(INSTANCE, expiryTime=-1)}),
    (404, "NOT_FOUND", {"body": info(INSTANCE)}),
    (422, "UNSUPPORTED_IDENTIFIER", {"body": {"RegistrationInfo": {"serviceConsumerId": {"mepId": "m"}}}}),
    (400, "INVALID_ARGUMENT", {"path": SUBSCRIPTIONS, "body": subscription(filterCriteria={"appInstanceId": "x"})}),
    (400, "INVALID_ARGUMENT", {"path": SUBSCRIPTIONS, "body": subscription(filterCriteria={"mobilityStatus": [4]})}),
    (400, "INVALID_ARGUMENT", {"path": SUBSCRIPTIONS, "body": subscription(filterCriteria={"associateId": ["x" * 101]})}),
    (400, "INVALID_ARGUMENT", {"path": SUBSCRIPTIONS, "body": subscription(expiryDeadline={"seconds": 1, "nanoSeconds": 0})}),
    (422, "SERVICE_NOT_APPLICABLE", {"path": SUBSCRIPTIONS, "body": subscription(websockNotifConfig={})}),
    (422, "SERVICE_NOT_APPLICABLE", {"path": SUBSCRIPTIONS, "body": {"AdjacentAppInfoSubscription": {}}}),
    (400, "INVALID_ARGUMENT", {"method": "GET", "path": f"{SUBSCRIPTIONS}?subscriptiontype=x"}),
    (404, "NOT_FOUND", {"method": "GET", "path": f"{SUBSCRIPTIONS}/{INSTANCE}/websocket"}),
    (404, "NOT_FOUND", {"path": "/user_defined_notification", "body": {}}),
    (405, "METHOD_NOT_ALLOWED", {"method": "PATCH"}),
    (415, "UNSUPPORTED_MEDIA_TYPE", {"data": b"{}", "headers": OWN | {"Content-Type": "text/plain"}}),
    (403, "PERMISSION_DENIED", {"path": SUBSCRIPTIONS, "body": subscription(), "headers": {"X-Auth-Token": "system"}}),
)


def test_errors_of_the_standard(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        cloud["brest"].services.people["system"] = ("", ("admin",))
        for status, title, request in ERRORS:
            answered = await ask(**{"method": "POST", "path": SERVICES} | request)
            assert (answered[0], answered[1]["title"]) == (status, title), request

    run(tmp_path, ROOT, test)


class Watcher:
    """A client with the WebSocket of a subscription."""

    def __init__(self, cloud: Cloud, ask: Ask) -> None:
        self._cloud = cloud
        self._ask = ask

    async def open(self, site: str = "brest", headers: dict[str, str] = OWN, **more: Any) -> aiohttp.ClientWebSocketResponse:
        made = (await self._ask("POST", SUBSCRIPTIONS, subscription(**more), site=site))[1]["MobilityProcedureSubscription"]
        return await self.again(made, headers)

    async def again(self, made: dict[str, Any], headers: dict[str, str] = OWN) -> aiohttp.ClientWebSocketResponse:
        return await self._cloud.session.ws_connect(made["websockNotifConfig"]["websocketUri"], headers=headers)


async def notification(socket: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
    async with asyncio.timeout(10):
        found = (await socket.receive_json())["MobilityProcedureNotification"]
    check_structure("MobilityProcedureNotification", NOTIFICATION, found)
    return dict(found)


async def closed(socket: aiohttp.ClientWebSocketResponse) -> int:
    async with asyncio.timeout(10):
        while (await socket.receive()).type not in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}:
            pass
    return socket.close_code or 0


ALL = {"mobilityStatus": [1, 2, 3]}


def test_notifications_reach_subscribers_of_the_project_at_every_site(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        server, other, foreign = add_instance(cloud, "metz"), add_instance(cloud, "metz"), add_instance(cloud, "metz", "p3")
        for each in (server, other):
            await ask("POST", SERVICES, info(each, device(f"d-{each}"), device("shared")))
        await ask("POST", SERVICES, info(foreign, device()), headers=OTHER)
        watcher = Watcher(cloud, ask)
        here = await watcher.open(filterCriteria=ALL)
        elsewhere = await watcher.open("pau", filterCriteria=ALL | {"appInstanceId": server, "associateId": [f"d-{server}"]})
        publish = cloud["metz"].edge.mobility.events.publish
        publish(MobilityEvent(foreign, "p3", Status.TRIGGERED))
        publish(MobilityEvent(foreign, "p1", Status.TRIGGERED))  # as a lying member could
        publish(MobilityEvent(server, "p1", Status.TRIGGERED))
        first = await notification(here)
        assert (first["mobilityStatus"], first["associateId"]) == (1, [f"d-{server}", "shared"])
        assert first["targetAppInfo"] == {
            "appInstanceId": server,
            "commInterface": {"ipAddresses": [{"host": "192.0.2.7", "port": 8443}]},
        }
        assert (await notification(elsewhere))["associateId"] == [f"d-{server}"]
        publish(MobilityEvent(other, "p1", Status.FAILED))
        assert (await notification(here))["mobilityStatus"] == 3
        publish(MobilityEvent(server, "p1", Status.COMPLETED))
        assert (await notification(elsewhere))["mobilityStatus"] == 2, "the other instance's did not come"

    run(tmp_path, ROOT, test)


def test_events_wait_for_a_client_that_comes_back(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        server = add_instance(cloud, "brest")
        await ask("POST", SERVICES, info(server, device()))
        made = (await ask("POST", SUBSCRIPTIONS, subscription(filterCriteria=ALL)))[1]["MobilityProcedureSubscription"]
        publish = cloud["brest"].edge.mobility.events.publish
        for _ in range(events.MOST_QUEUED + 3):
            publish(MobilityEvent(server, "p1", Status.TRIGGERED))
        publish(MobilityEvent(server, "p1", Status.COMPLETED))
        watcher = Watcher(cloud, ask)
        socket = await watcher.again(made)
        statuses = [(await notification(socket))["mobilityStatus"] for _ in range(events.MOST_QUEUED)]
        assert statuses == [1] * (events.MOST_QUEUED - 1) + [2], "the oldest are dropped"
        second, code = await asyncio.gather(watcher.again(made), closed(socket))
        assert code == 1001, "one WebSocket a subscription"
        publish(MobilityEvent(server, "p1", Status.FAILED))
        assert (await notification(second))["mobilityStatus"] == 3
        await second.send_str("x")
        await closed(second)

    run(tmp_path, ROOT, test)


def test_end_of_a_websocket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        monkeypatch.setattr(sockets, "CHECK_S", 0.05)
        watcher, people = Watcher(cloud, ask), cloud["brest"].services.people
        made = (await ask("POST", SUBSCRIPTIONS, subscription(requestTestNotification=True)))[1]["MobilityProcedureSubscription"]
        for headers, status in ((OTHER, 404), ({}, 401), ({"X-Auth-Token": "nobody"}, 403)):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await watcher.again(made, headers)
            assert refused.value.status == status
        status, _said, _headers = await ask("GET", made["_links"]["self"]["href"].partition(ROOT)[2] + "/websocket")
        assert status == 400, "no handshake"
        people["temporary"] = people["member"]
        socket = await watcher.again(made, {"X-Auth-Token": "temporary"})
        assert (await socket.receive_json())["TestNotification"]["notificationType"] == "TestNotification"
        del people["temporary"]
        assert await closed(socket) == 1008
        socket = await watcher.open(expiryDeadline={"seconds": int(time.time()) + 1, "nanoSeconds": 0})
        expiry = (await socket.receive_json())["ExpiryNotification"]
        check_structure("ExpiryNotification", {"required": ["expiryDeadline"]}, expiry)
        assert await closed(socket) == 1000
        socket = await watcher.again(made)
        assert (await ask("DELETE", made["_links"]["self"]["href"].partition(ROOT)[2]))[0] == 204
        await closed(socket)
        assert (await ask("GET", SUBSCRIPTIONS))[1]["SubscriptionLinkList"]["_links"]["subscription"] == []

    run(tmp_path, ROOT, test)


def test_token_is_checked_before_each_notification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        people, server = cloud["brest"].services.people, add_instance(cloud, "brest")
        made = (await ask("POST", SUBSCRIPTIONS, subscription(filterCriteria=ALL)))[1]["MobilityProcedureSubscription"]
        for status in (Status.TRIGGERED, Status.FAILED):
            cloud["brest"].edge.mobility.events.publish(MobilityEvent(server, "p1", status))
        people["temporary"] = people["member"]

        async def read(_sockets: Any, _question: Any, _subscription: Any, event: MobilityEvent, _at_s: float) -> dict[str, Any]:
            people.pop("temporary", None)
            return {"mobilityStatus": event.status}

        monkeypatch.setattr(sockets.Sockets, "_notification", read)
        socket = await Watcher(cloud, ask).again(made, {"X-Auth-Token": "temporary"})
        assert (await socket.receive_json())["MobilityProcedureNotification"] == {"mobilityStatus": 1}
        second = await socket.receive()
        assert (second.type, second.data) == (aiohttp.WSMsgType.CLOSE, 1008)

    run(tmp_path, ROOT, test)


def test_websocket_outlasts_a_service_that_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        server = add_instance(cloud, "brest")
        await ask("POST", SERVICES, info(server, device()))
        socket = await Watcher(cloud, ask).open(filterCriteria=ALL)
        show, busy = UserServices.show, [True]

        async def shown(*given: Any) -> Any:
            if busy:
                busy.clear()
                raise Refused(503, "compute already answers as many requests of this user as it may")
            return await show(*given)

        monkeypatch.setattr(UserServices, "show", shown)
        for status in (Status.TRIGGERED, Status.FAILED):
            cloud["brest"].edge.mobility.events.publish(MobilityEvent(server, "p1", status))
        assert (await notification(socket))["mobilityStatus"] == 3

    run(tmp_path, ROOT, test)


def test_deleted_subscription_leaves_no_queue(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        socket, mobility = await Watcher(cloud, ask).open(), cloud["brest"].edge.mobility
        (held,) = mobility._subscriptions.of("p1")
        mobility._subscriptions.delete(held.id)
        mobility.events.arrival(held.id).set()
        assert await closed(socket) == 1000
        async with asyncio.timeout(10):
            while mobility.events._queues or mobility.events._changed:
                await asyncio.sleep(0.01)

    run(tmp_path, ROOT, test)


def test_hand_offs_of_one_project_delay_no_others_events() -> None:
    class Slow:
        def reachable(self, _service: str = "") -> list[str]:
            return ["metz"]

        async def send(self, *_given: Any) -> None:
            await asyncio.Event().wait()

    async def main() -> None:
        told = events.Events(cast("Sites", Slow()), subscriptions.Subscriptions(":memory:"))
        for _ in range(2 * events.MOST_UNDER_WAY):
            told.publish(MobilityEvent(INSTANCE, "p1", Status.TRIGGERED))
        assert len(told._telling) == events.MOST_OF_PROJECT < events.MOST_UNDER_WAY
        told.publish(MobilityEvent(INSTANCE, "p3", Status.TRIGGERED))
        assert len(told._telling) == events.MOST_OF_PROJECT + 1
        await told.stop()

    asyncio.run(main())


def test_gateway_stops_with_open_websockets(tmp_path: Path) -> None:
    left: list[aiohttp.ClientWebSocketResponse] = []

    async def test(cloud: Cloud, ask: Ask) -> None:
        left.append(await Watcher(cloud, ask).open())
        async with asyncio.timeout(10):
            stopping = asyncio.create_task(cloud["brest"].edge.stop())
            assert await closed(left[0]) == 1001
            await stopping

    run(tmp_path, ROOT, test)


def test_events_of_peers_are_checked(tmp_path: Path) -> None:
    async def test(cloud: Cloud, ask: Ask) -> None:
        await ask("GET", SUBSCRIPTIONS)
        event = {"server": str(uuid.uuid4()), "project": "p1", "status": 1}
        wrong = (event | {"server": "../x"}, event | {"status": 9}, event | {"project": 1}, event | {"more": 1}, [], {"server": 1})
        wrong += (event | {"project": "\ud800"}, event | {"status": True}, event | {"status": 1.0})
        for body, status in ((event, 204), *((each, 400) for each in wrong)):
            call = to_gateway("POST", events.PATH, body=json.dumps(body).encode())
            assert (await cloud["metz"].sites.send("brest", call)).status == status, body

    run(tmp_path, ROOT, test)


def held(*devices: dict[str, Any]) -> dict[str, str]:
    return wanted(json.dumps(info(INSTANCE, *devices)).encode(), 0.0).metadata()


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, Consent.GIVEN),
        (held(device()), Consent.GIVEN),
        (held(device(level=3)), Consent.GIVEN),
        (held(device("a", 3), device("b", 2)), Consent.AWAITED),
        (held(device("b", 2, 1)), Consent.GIVEN),
        (held(device("a", 2), device("b", 1)), Consent.REFUSED),
        ({f"{DEVICE}0": '["a",1,0]'}, Consent.GIVEN),
        (held(device(level=1)) | {f"{DEVICE}0": "{"}, Consent.GIVEN),
    ],
)
def test_consent_to_a_hand_off(metadata: dict[str, str], expected: Consent) -> None:
    assert consent(metadata, 1.0) is expected


def test_confirmation_is_for_one_hand_off() -> None:
    metadata = held(device("a", 2, 1), device("b", 3)) | {"mine": "kept", f"{DEVICE}x": "1", f"{DEVICE}7": "?"}
    assert consent(metadata, 1.0) is Consent.GIVEN
    moved = after_move(metadata)
    assert consent(moved | {f"{DEVICE}7": '["c",0,0]'}, 1.0) is Consent.AWAITED
    assert {key for key, value in moved.items() if metadata[key] != value} == {f"{DEVICE}0"}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(name=st.sampled_from(["deviceInformation", "expiryTime", "serviceConsumerId", "filterCriteria", "_links"]), value=_JSON)
def test_any_value_is_accepted_or_refused(name: str, value: Any) -> None:
    parsers: tuple[tuple[Callable[..., Any], Any], ...] = (
        (lambda body: wanted(body, 0.0), info(INSTANCE, **{name: value})),
        (lambda body: subscriptions.wanted(body, "p", 0.0), subscription(**{name: value})),
    )
    for parse, body in parsers:
        with suppress(Problem):
            parse(json.dumps(body).encode())
    registration_of(INSTANCE, {REGISTERED: json.dumps(value), f"{DEVICE}0": json.dumps(value)}, 0.0)
    consent({REGISTERED: '{"expiry":0,"until":0}', f"{DEVICE}0": json.dumps(value)}, 0.0)
    after_move({f"{DEVICE}0": json.dumps(value)})
