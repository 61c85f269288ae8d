"""Compute sites at the peer port may use the APIs of nova-compute, with a certificate that is listed now."""

import asyncio
import json
import ssl

import aiohttp
import pytest
from gateway_cloud import Cloud

from atoll.mesh import compute_sites
from atoll.mesh.certificates import authority
from atoll.mesh.compute_sites import ComputeSite


class Edge:
    """Return a compute site of paris, whose certificate paris may have on its list."""

    def __init__(self, directory, cloud: Cloud, name: str = "edge") -> None:
        authority(directory / "ca", "test").certify(directory / name, name, "127.0.0.1", unique=True)
        self.entry = ComputeSite.of(name, (directory / name / "cert.pem").read_text(), 7)
        self.file = cloud["paris"].options.computes_file
        self._port = cloud["paris"].peer_port
        self._tls = ssl.create_default_context(cafile=directory / name / "ca.pem")
        self._tls.load_cert_chain(directory / name / "cert.pem", directory / name / "key.pem")

    async def ask(self, session: aiohttp.ClientSession, path: str, **headers: str) -> int:
        async with session.get(f"https://127.0.0.1:{self._port}{path}", ssl=self._tls, headers=headers) as answer:
            await answer.read()
            return answer.status

    async def post(self, session: aiohttp.ClientSession, path: str, token: str) -> tuple[int, str]:
        headers = {"X-Auth-Token": token} if token else {}
        async with session.post(f"https://127.0.0.1:{self._port}{path}", ssl=self._tls, json={}, headers=headers) as answer:
            whole = await answer.read()
            return answer.status, json.loads(whole)["error"]["message"] if answer.content_type == "application/json" else ""


@pytest.fixture
def cloud(tmp_path) -> Cloud:
    return Cloud(tmp_path, "paris", "lyon")


def test_a_compute_site_may_send_the_requests_of_nova_compute_only(tmp_path, cloud):
    async def run() -> None:
        edge = Edge(tmp_path, cloud)
        compute_sites.save(edge.file, [edge.entry])
        async with cloud as up:
            cloud["paris"].services.network["networks"]["n"] = {"id": "n"}
            assert await edge.ask(up.session, "/network/v2.0/networks/n") == 200
            assert await edge.ask(up.session, "/image/v2/images") == 200
            for path in ("/compute/v2.1/servers", "/load-balancer/v2/x", "/atoll/ping", "/atoll/console/serial", "/atoll/images/x", "/"):
                assert await edge.ask(up.session, path) in {403, 404}, path

    asyncio.run(run())


def test_a_compute_site_has_the_base_of_an_overlay_brought(tmp_path, cloud):
    async def run() -> None:
        edge = Edge(tmp_path, cloud)
        path = "/cloudlet/v1/overlays/0a0a0a0a-0000-4000-8000-000000000001/base"
        async with cloud as up:
            cloud["paris"].services.people["member"] = ("p1", ("member",))
            assert await edge.post(up.session, path, "member") == (403, "")
            compute_sites.save(edge.file, [edge.entry])
            assert await edge.post(up.session, path, "") == (401, "the request has no token: expected an X-Auth-Token header")
            status, message = await edge.post(up.session, path, "member")
            assert (status, message.partition(" image")[0]) == (404, "paris has no active")

    asyncio.run(run())


def test_an_unlisted_or_revoked_certificate_gives_no_access_immediately(tmp_path, cloud):
    """Refuse the compute site also on a connection that is open already."""

    async def run() -> None:
        edge, far = Edge(tmp_path, cloud), Edge(tmp_path, cloud, "far")
        async with cloud as up:
            assert await edge.ask(up.session, "/image/v2/images") == 403
            compute_sites.save(edge.file, [edge.entry, far.entry])
            assert await edge.ask(up.session, "/image/v2/images") == 200
            assert await far.ask(up.session, "/image/v2/images") == 200
            compute_sites.save(edge.file, [edge.entry.without_access(), far.entry])
            assert await edge.ask(up.session, "/image/v2/images") == 403
            assert await far.ask(up.session, "/image/v2/images") == 200

    asyncio.run(run())


def test_compute_site_is_not_a_gateway(tmp_path, cloud):
    """Drop the headers of a compute site that only gateways may set."""

    async def run() -> None:
        edge = Edge(tmp_path, cloud)
        compute_sites.save(edge.file, [edge.entry])
        async with cloud as up:
            heard: list[dict[str, str]] = []
            services, handle = cloud["paris"].services, cloud["paris"].services.neutron

            async def neutron(request, rest):
                heard.append(dict(request.headers))
                return await handle(request, rest)

            services.neutron = neutron
            said = {"X-Forwarded-Host": "elsewhere", "X-Atoll-Hop": "1", "Forwarded": "for=1", "X-Auth-Token": "t"}
            assert await edge.ask(up.session, "/network/v2.0/networks", **said) == 200
            (headers,) = heard
            assert headers["X-Auth-Token"] == "t"
            assert "elsewhere" not in str(headers)
            assert not {"Forwarded", "X-Atoll-Hop"} & set(headers)

    asyncio.run(run())
