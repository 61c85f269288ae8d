"""Clients that create and delete resources until the power is cut, and record the acknowledgements."""

from __future__ import annotations

import hashlib
import http.client
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from deployment import Deployment, until

from atoll.bench import workload
from atoll.bench.api import Api
from atoll.bench.workload import Tenancy
from atoll.errors import AtollError

PASSWORD = "before-the-cut"
PUBLIC_KEY = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")
IMAGE_BYTES = 300_000


@dataclass(frozen=True)
class Kind:
    """A kind of resource.

    Attributes:
        make: creates a resource with a name, and returns its id after the acknowledgement.
        path: the path of a resource without its id.
        service: the type of the service.
        listed: returns the names of all existing resources by id.
        clients: the number of clients that create and delete such resources at once.
    """

    make: Callable[[Api, str], str]
    service: str
    path: str
    listed: Callable[[Api], dict[str, str]]
    clients: int = 1


@dataclass
class Told:
    """The acknowledged state of one kind of resource.

    Attributes:
        there: the names of the resources that were created and not deleted, by id.
        gone: the ids of the deleted resources.
        digests: the SHA-512 of images' data, by id.
    """

    there: dict[str, str] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    digests: dict[str, str] = field(default_factory=dict)


class Clients:
    """Clients of one site.

    Args:
        cloud: the cloud of the site.
        tenancy: the image, flavor and network of servers.
        rng: the source of their random choices.

    Attributes:
        acknowledged: the number of acknowledged creations and deletions.
        told: the acknowledged state by kind.
    """

    def __init__(self, cloud: Deployment, tenancy: Tenancy, rng: random.Random) -> None:
        self._cloud = cloud
        self._rng = rng
        self._lock = threading.Lock()
        self._numbers: Counter[str] = Counter()
        self._ended = threading.Event()
        self.acknowledged = 0
        self._closed_at = 0.0
        self._told_at: dict[str, float] = {}
        self._kinds = {
            "user": Kind(_make_user, "identity", "/users", _listed("identity", "/users", "users"), 2),
            "network": Kind(_make_network, "network", "/v2.0/networks", _listed("network", "/v2.0/networks", "networks"), 2),
            "keypair": Kind(_make_keypair, "compute", "/os-keypairs", _keypairs),
            "image": Kind(self._make_image, "image", "/v2/images", _listed("image", "/v2/images?limit=1000", "images")),
            "server": Kind(
                lambda api, name: workload.boot(api, tenancy, name)[0],
                "compute",
                "/servers",
                _listed("compute", "/servers?all_tenants=1&limit=1000", "servers"),
                3,
            ),
        }
        self.told = {name: Told() for name in self._kinds}

    def run(self, work: Callable[[], None]) -> None:
        """Create and delete resources while `work` runs. It ends with the site, so later errors are expected.

        Raises:
            AssertionError: a request failed before the end of `work`.
        """
        self._ended.clear()
        self._closed_at = 0.0
        api = self._cloud.api()
        with ThreadPoolExecutor(sum(kind.clients for kind in self._kinds.values())) as pool:
            running: list[Future[None]] = [
                pool.submit(self._go_on, api, name, kind) for name, kind in self._kinds.items() for _ in range(kind.clients)
            ]
            try:
                work()
            finally:
                self._ended.set()
            for each in running:
                each.result()

    def close(self) -> None:
        """Ignore later acknowledgements, whose changes may or may not survive."""
        with self._lock:
            self._closed_at = time.monotonic()

    def _go_on(self, api: Api, name: str, kind: Kind) -> None:
        while not self._ended.is_set():
            try:
                self._change(api, name, kind)
            except (OSError, http.client.HTTPException, AtollError) as error:
                if not self._ended.wait(5):  # some time passes between the cut and the end of `work`
                    raise AssertionError(f"{name}: {error}") from error
                return

    def _change(self, api: Api, name: str, kind: Kind) -> None:
        told = self.told[name]
        with self._lock:
            self._numbers[name] += 1
            called = f"{name}-{self._numbers[name]}"
            doomed = self._rng.choice(sorted(told.there)) if len(told.there) > 3 and self._rng.random() < 0.4 else ""
            told.there.pop(doomed, None)  # from now on either state is correct
        if not doomed:
            made = kind.make(api, called)
            with self._lock:
                if not self._closed_at:
                    told.there[made] = called
                    self._told_at[made] = time.monotonic()
                    self.acknowledged += 1
            return
        answer = api.call(kind.service, "DELETE", f"{kind.path}/{doomed}")
        if not answer.ok:
            raise AtollError("bench.failed", f"DELETE {kind.path}/{doomed}: HTTP {answer.status}")
        with self._lock:
            if not self._closed_at:
                told.gone.add(doomed)
                self._told_at[doomed] = time.monotonic()
                self.acknowledged += 1

    def _make_image(self, api: Api, name: str) -> str:
        data = os.urandom(IMAGE_BYTES)
        image = str(api.expect("image", "POST", "/v2/images", {"name": name, "disk_format": "raw", "container_format": "bare"})["id"])
        api.expect("image", "PUT", f"/v2/images/{image}/file", data=data)
        self.told["image"].digests[image] = hashlib.sha512(data).hexdigest()
        return image

    # After the cut

    def lost(self) -> list[str]:
        """Return a line for each resource whose state differs from the acknowledged one; empty if none was lost or duplicated."""
        api = self._cloud.api()
        return [line for name, kind in self._kinds.items() for line in self._lost_of(api, name, kind)] + self._broken(api)

    def _lost_of(self, api: Api, name: str, kind: Kind) -> list[str]:
        told = self.told[name]
        if name == "server":  # an acknowledged deletion may have to be completed first
            with suppress(AssertionError):
                until(lambda: told.gone.isdisjoint(kind.listed(api)), "deleted servers are gone", 30.0)
        listed = kind.listed(api)
        lines = [f"{name} {each} is not there, {self._since(each)}" for each in told.there if listed.get(each) != told.there[each]]
        lines += [f"{name} {each} is there again, {self._since(each)}" for each in told.gone & set(listed)]
        return lines + [f"{name} {each} is there twice" for each, count in Counter(listed.values()).items() if count > 1]

    def _since(self, thing: str) -> str:
        return f"of which a client was told {self._closed_at - self._told_at[thing]:.3f} s before the last cut"

    def _broken(self, api: Api) -> list[str]:
        """Return the resources whose content has changed."""
        found = []
        active = {each["id"] for each in api.expect("compute", "GET", "/servers?status=ACTIVE&limit=1000")["servers"]}
        plugged = {each["device_id"] for each in api.expect("network", "GET", "/v2.0/ports")["ports"]}
        for server in self.told["server"].there:
            if server not in active:
                found.append(f"server {server} is not ACTIVE any more")
            if server not in plugged:
                found.append(f"server {server} has no port any more")
        directory = self._cloud.settings().data / "images"
        for image, digest in self.told["image"].digests.items():
            if image in self.told["image"].there and _digest(directory / image) != digest:
                found.append(f"image {image} has other data")
        for name in list(self.told["user"].there.values())[-2:]:
            found += self._cannot_sign_in(name)
        return found

    def _cannot_sign_in(self, name: str) -> list[str]:
        domain = {"id": "default"}
        identity = {"methods": ["password"], "password": {"user": {"name": name, "domain": domain, "password": PASSWORD}}}
        settings = self._cloud.settings()
        anybody = Api(settings.public_url("identity", "/v3"), "")
        answer = anybody.call("identity", "POST", "/auth/tokens", {"auth": {"identity": identity, "scope": "unscoped"}})
        return [] if answer.status == 201 else [f"user {name} can't sign in: HTTP {answer.status}"]


def _digest(path: Any) -> str:
    try:
        return hashlib.sha512(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return "no file"


def _listed(service: str, path: str, key: str) -> Callable[[Api], dict[str, str]]:
    return lambda api: {each["id"]: each["name"] for each in api.expect(service, "GET", path)[key]}


def _keypairs(api: Api) -> dict[str, str]:
    pairs = [each["keypair"] for each in api.expect("compute", "GET", "/os-keypairs?limit=1000")["keypairs"]]
    return {each["name"]: each["name"] for each in pairs}


def _make_user(api: Api, name: str) -> str:
    return str(api.expect("identity", "POST", "/users", {"user": {"name": name, "password": PASSWORD}})["user"]["id"])


def _make_network(api: Api, name: str) -> str:
    return str(api.expect("network", "POST", "/v2.0/networks", {"network": {"name": name}})["network"]["id"])


def _make_keypair(api: Api, name: str) -> str:
    wanted = {"name": name, "type": "ssh", "public_key": PUBLIC_KEY}
    return str(api.expect("compute", "POST", "/os-keypairs", {"keypair": wanted})["keypair"]["name"])
