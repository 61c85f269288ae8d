"""Two projects with a user each in a cloud of several sites, and requests for each other's resources."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from deployment import Deployment, until
from holdings import await_status

from atoll.bench.api import Answer, Api

PASSWORD = "correct-horse"


@dataclass
class Tenants:
    """The tenants of a cloud.

    Attributes:
        cloud: the cloud.
        sites: the names of its sites; resources are created at the first.
        admin: an administrator's client by site.
        users: a client by user and site.
    """

    cloud: Deployment
    sites: Sequence[str]
    admin: dict[str, Api] = field(default_factory=dict)
    users: dict[tuple[str, str], Api] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)

    def prepare(self) -> None:
        """Create projects p1 and p2 with members u1 and u2, and a public image and flavor."""
        self.admin = {site: self.cloud.api_inside(site) for site in self.sites}
        admin = self.admin[self.sites[0]]
        member = next(each["id"] for each in admin.expect("identity", "GET", "/roles?name=member")["roles"])
        for number in "12":
            project = self._made("identity", "project", {"name": f"p{number}", "domain_id": "default"})
            user = self._made("identity", "user", {"name": f"u{number}", "domain_id": "default", "password": PASSWORD})
            admin.expect("identity", "PUT", f"/projects/{project}/users/{user}/roles/{member}")
            self.ids |= {f"p{number}": project, f"u{number}": user}
        self.ids["image"] = self.image(admin, "demo", visibility="public")
        self.ids["flavor"] = next(each["id"] for each in admin.expect("compute", "GET", "/flavors")["flavors"] if each["name"] == "m1.nano")
        for site in self.sites:
            for number in "12":
                self.users[f"u{number}", site] = until(partial(self._client, site, number), f"u{number} signs in at {site}", 60)

    def _client(self, site: str, number: str) -> Api | None:
        try:
            return self.cloud.api_inside(site, f"u{number}", PASSWORD, f"p{number}")
        except Exception:
            return None

    def _made(self, service: str, kind: str, body: dict[str, Any]) -> str:
        return str(self.admin[self.sites[0]].expect(service, "POST", f"/{kind}s", {kind: body})[kind]["id"])

    def image(self, api: Api, name: str, **more: Any) -> str:
        """Create an image with some data."""
        described = {"name": name, "disk_format": "raw", "container_format": "bare", **more}
        made = str(api.expect("image", "POST", "/v2/images", described)["id"])
        api.expect("image", "PUT", f"/v2/images/{made}/file", data=b"x" * 4096)
        return made

    def network(self, api: Api, name: str, cidr: str = "10.91.0.0/24") -> str:
        """Create a network with a subnet."""
        made = str(api.expect("network", "POST", "/v2.0/networks", {"network": {"name": name}})["network"]["id"])
        api.expect("network", "POST", "/v2.0/subnets", {"subnet": {"network_id": made, "ip_version": 4, "cidr": cidr}})
        return made

    def boot(self, api: Api, zone: str, **more: Any) -> Answer:
        """Request a server in a zone."""
        server = {"name": f"at-{zone}", "imageRef": self.ids["image"], "flavorRef": self.ids["flavor"], "networks": "none"}
        return api.call("compute", "POST", "/servers", {"server": {**server, "availability_zone": zone, **more}})

    def booted(self, api: Api, zone: str, **more: Any) -> str:
        """Boot a server and wait until it is ACTIVE."""
        answer = self.boot(api, zone, **more)
        assert answer.status == 202, answer
        await_status(api, answer.body["server"]["id"], "ACTIVE")
        return str(answer.body["server"]["id"])

    def delete(self, api: Api, server: str) -> None:
        """Delete a server and wait until it is gone."""
        assert api.call("compute", "DELETE", f"/servers/{server}").ok
        until(lambda: api.call("compute", "GET", f"/servers/{server}").status == 404, f"{server} gone", 60)

    def with_token(self, site: str, token: str) -> Api:
        """Return a client with a given token."""
        api = self.cloud.api_inside(site)
        api._token = token
        return api

    def token(self, site: str, auth: dict[str, Any]) -> str:
        """Sign in at a site by any method."""
        api = self.with_token(site, "")
        answer = api.call("identity", "POST", "/auth/tokens", {"auth": auth})
        assert answer.status == 201, answer
        return str(answer.headers["x-subject-token"])

    def credential(self, user: str, rules: Sequence[tuple[str, str, str]] | None, **more: Any) -> str:
        """Return a token of a user's new application credential.

        Args:
            user: the user.
            rules: the service, method and path of each access rule; `None` for no rules.
        """
        name = f"credential-{time.monotonic_ns()}"
        said = [{"service": service, "method": method, "path": path} for service, method, path in rules or ()]
        body = {"name": name, "secret": PASSWORD, **({} if rules is None else {"access_rules": said}), **more}
        home = self.sites[0]
        made = self.users[user, home].expect(
            "identity", "POST", f"/users/{self.ids[user]}/application_credentials", {"application_credential": body}
        )
        for site in self.sites:
            path = f"/users/{self.ids[user]}/application_credentials/{made['application_credential']['id']}"
            until(lambda site=site, path=path: self.users[user, site].call("identity", "GET", path).ok, f"{site} knows the credential", 30)
        method = {"id": made["application_credential"]["id"], "secret": PASSWORD}
        return self.token(home, {"identity": {"methods": ["application_credential"], "application_credential": method}})


def known(api: Api, service: str, path: str, key: str) -> Callable[[], set[str]]:
    """Return a function that returns the values of a key in a list."""
    return lambda: {each["id"] for each in api.expect(service, "GET", path)[key]}
