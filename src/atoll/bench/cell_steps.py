"""Workloads of several steps at each site: needed resources are made beforehand, and each step is an operation of its own.

All steps are carried out once to fill caches, and then `times` times, which is a parameter of the workload. If a step fails, the steps
that need its result are skipped in this repetition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from atoll.bench import workload
from atoll.bench.api import refused
from atoll.bench.cell_workloads import CellRecorder, Parameters, Place, Run, at_each, boot_active, list_servers
from atoll.bench.failure import failed
from atoll.bench.waiting import wait_until
from atoll.bench.workload import Tenancy

Measure = Callable[[str, Callable[[], Any]], Any]
"""A function that carries out an operation, given by name, and returns its result; `None` if it failed."""


@dataclass
class Ground:
    """The resources of a site's user.

    Attributes:
        place: the site with its user.
        tenancy: an image, a flavor and a network with a subnet.
        made: the ids of further resources, by kind.
    """

    place: Place
    tenancy: Tenancy
    made: dict[str, str] = field(default_factory=dict)


Prepare = Callable[[Ground, Parameters], None]
Once = Callable[[Ground, str, Measure], None]


def _steps(once: Once, prepare: Prepare = lambda _ground, _parameters: None) -> Run:
    """Return a workload of several steps.

    Args:
        once: carries out all steps once; it gets the site's resources, a name for new ones, and the measuring function.
        prepare: makes further resources before anything is measured.
    """

    def run(places: Sequence[Place], recorder: CellRecorder, parameters: Parameters, _seed: int) -> None:
        # Each user has a network of their own, so that no step depends on resources that another site is changing.
        grounds = {place.site: Ground(place, workload.prepare(place.api)) for place in places}

        def warm_up(place: Place) -> None:
            prepare(grounds[place.site], parameters)
            once(grounds[place.site], f"{place.site}-0", lambda _operation, work: _never_nothing(work()))

        def work(place: Place) -> None:
            def measure(operation: str, step: Callable[[], Any]) -> Any:
                return recorder.measure(operation, place.site, lambda: _never_nothing(step()))

            for number in range(1, parameters["times"] + 1):
                once(grounds[place.site], f"{place.site}-{number}", measure)

        at_each(places, warm_up)
        recorder.begin()
        at_each(places, work, in_turn=parameters.get("order") == "in-turn")

    return run


def _never_nothing(result: Any) -> Any:
    """Return the result of a step, or an empty text in place of `None`, which means that a step failed."""
    return "" if result is None else result


def _one(ground: Ground, path: str, kind: str, **fields: Any) -> str:
    """Create a network resource, and return its id."""
    return str(ground.place.api.expect("network", "POST", f"/v2.0/{path}", {kind: fields})[kind]["id"])


def _remove(ground: Ground, path: str) -> None:
    ground.place.api.expect("network", "DELETE", f"/v2.0/{path}")


def _server(ground: Ground, _parameters: Parameters) -> None:
    ground.made["server"] = boot_active(ground.place, ground.tenancy, f"{ground.place.site}-kept")


def _state(ground: Ground, action: str, status: str) -> None:
    """Request an action on the user's server, and wait until the server has the resulting status."""
    api, path = ground.place.api, f"/servers/{ground.made['server']}"
    api.expect("compute", "POST", f"{path}/action", {action: None})

    def reached() -> bool:
        found = api.expect("compute", "GET", path)["server"]["status"]
        if found == "ERROR":
            raise failed(f"the server went to ERROR after {action}")
        return bool(found == status)

    wait_until(reached, f"the server is {status}", workload.BOOT_TIMEOUT_S, workload.POLL_S)


def _pause(ground: Ground, _name: str, measure: Measure) -> None:
    if measure("pause", partial(_state, ground, "pause", "PAUSED")) is not None:
        measure("unpause", partial(_state, ground, "unpause", "ACTIVE"))


def _attach(ground: Ground, _name: str, measure: Measure) -> None:
    api, path = ground.place.api, f"/servers/{ground.made['server']}/os-interface"

    def attach() -> str:
        body = {"interfaceAttachment": {"net_id": ground.tenancy.network}}
        return str(api.expect("compute", "POST", path, body)["interfaceAttachment"]["port_id"])

    def detach(port: str) -> None:
        api.expect("compute", "DELETE", f"{path}/{port}")

        def gone() -> bool:
            return all(each["port_id"] != port for each in api.expect("compute", "GET", path)["interfaceAttachments"])

        wait_until(gone, "the interface is detached", workload.BOOT_TIMEOUT_S, workload.POLL_S)

    port = measure("attach", attach)
    if port is not None:
        measure("detach", partial(detach, port))


def _outside(ground: Ground, _parameters: Parameters) -> None:
    """Create an external network, and a router between it and the user's network."""
    outside = _one(ground, "networks", "network", name="outside", **{"router:external": True})
    _one(ground, "subnets", "subnet", network_id=outside, ip_version=4, cidr="172.24.4.0/24", enable_dhcp=False)
    router = _one(ground, "routers", "router", name="outside", external_gateway_info={"network_id": outside})
    _join(ground, router)
    ground.made["outside"] = outside


def _inner_subnet(ground: Ground) -> str:
    found = ground.place.api.expect("network", "GET", f"/v2.0/subnets?network_id={ground.tenancy.network}")["subnets"]
    return str(found[0]["id"])


def _join(ground: Ground, router: str) -> None:
    ground.place.api.expect("network", "PUT", f"/v2.0/routers/{router}/add_router_interface", {"subnet_id": _inner_subnet(ground)})


def _floating_ip(ground: Ground, name: str, measure: Measure) -> None:
    api = ground.place.api
    server = measure("boot", partial(boot_active, ground.place, ground.tenancy, name))
    if server is None:
        return

    def associate() -> str:
        port = api.expect("network", "GET", f"/v2.0/ports?device_id={server}")["ports"][0]["id"]
        return _one(ground, "floatingips", "floatingip", floating_network_id=ground.made["outside"], port_id=port)

    address = measure("associate", associate)
    if address is not None:
        measure("release", partial(_remove, ground, f"floatingips/{address}"))
    measure("delete", partial(workload.delete, api, [server]))


def _network_of_its_own(ground: Ground, _parameters: Parameters) -> None:
    ground.made["network"] = _one(ground, "networks", "network", name="steps")


def _subnet(ground: Ground, name: str, measure: Measure) -> None:
    def step() -> None:
        fields = {"network_id": ground.made["network"], "ip_version": 4, "cidr": "10.92.0.0/24"}
        _remove(ground, f"subnets/{_one(ground, 'subnets', 'subnet', name=name, **fields)}")

    measure("subnet", step)


def _port(ground: Ground, name: str, measure: Measure) -> None:
    def step() -> None:
        _remove(ground, f"ports/{_one(ground, 'ports', 'port', name=name, network_id=ground.tenancy.network)}")

    measure("port", step)


def _router(ground: Ground, name: str, measure: Measure) -> None:
    def step() -> None:
        router = _one(ground, "routers", "router", name=name)
        _join(ground, router)
        body = {"subnet_id": _inner_subnet(ground)}
        ground.place.api.expect("network", "PUT", f"/v2.0/routers/{router}/remove_router_interface", body)
        _remove(ground, f"routers/{router}")

    measure("router", step)


def _security_group(ground: Ground, name: str, measure: Measure) -> None:
    def step() -> None:
        _remove(ground, f"security-groups/{_one(ground, 'security-groups', 'security_group', name=name)}")

    measure("security-group", step)


def _size(ground: Ground, parameters: Parameters) -> None:
    ground.made["bytes"] = str(int(parameters["megabytes"] * 1e6))


def _image_boot(ground: Ground, name: str, measure: Measure) -> None:
    api = ground.place.api

    def upload() -> str:
        image = api.expect("image", "POST", "/v2/images", {"name": name, "disk_format": "raw", "container_format": "bare"})["id"]
        api.expect("image", "PUT", f"/v2/images/{image}/file", data=bytes(int(ground.made["bytes"])))
        return str(image)

    image = measure("upload", upload)
    if image is None:
        return
    tenancy = Tenancy(image, ground.tenancy.flavor, ground.tenancy.network)
    server = measure("boot", partial(boot_active, ground.place, tenancy, name))
    if server is not None:
        measure("delete", partial(workload.delete, api, [server]))
    measure("image-delete", partial(api.expect, "image", "DELETE", f"/v2/images/{image}"))


def _token_validate(ground: Ground, _name: str, measure: Measure) -> None:
    api = ground.place.api

    def validate() -> None:
        answer = api.call("identity", "GET", "/auth/tokens", headers={"X-Subject-Token": api.token})
        if not answer.ok:
            raise refused("GET /auth/tokens", answer)

    if measure("token", api.sign_in) is not None:
        measure("validate", validate)


def list_at_scale(places: Sequence[Place], recorder: CellRecorder, parameters: Parameters, _seed: int) -> None:
    """List servers at each site while the cloud has many, which the users of the sites boot beforehand in equal shares."""
    wanted = parameters["servers"]

    def fill(place: Place) -> None:
        own = len(range(places.index(place), wanted, len(places)))
        if own:
            workload.boot_many(place.api, workload.prepare(place.api), own, 10)

    at_each(places, fill, in_turn=True)
    at_each(places, lambda place: list_servers(place, 0))
    recorder.begin()

    def work(place: Place) -> None:
        for number in range(1, parameters["times"] + 1):
            recorder.measure("list", place.site, partial(list_servers, place, number))

    at_each(places, work, in_turn=parameters.get("order") == "in-turn")


STEPS: Mapping[str, Run] = {
    "floating-ip": _steps(_floating_ip, _outside),
    "pause": _steps(_pause, _server),
    "attach": _steps(_attach, _server),
    "subnet": _steps(_subnet, _network_of_its_own),
    "port": _steps(_port),
    "router": _steps(_router),
    "security-group": _steps(_security_group),
    "image-boot": _steps(_image_boot, _size),
    "token-validate": _steps(_token_validate),
    "list-at-scale": list_at_scale,
}
"""The functions that carry out the workloads of several steps, by name."""
