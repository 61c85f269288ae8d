"""Keystone's whole application, without a socket: the limits of its API for tenants and for administrators of other sites."""

import json
import shutil

import pytest
from upstream import inside

from atoll.cloud import PORT_OFFSETS
from atoll.services import Settings
from atoll.services.keystone import service as keystone
from atoll.services.patches.keystone.bounds import TRUSTS_PER_USER
from atoll.services.patches.keystone.trust import AUDIT_FILE
from atoll.site.composition import SECRETS

TEMPLATE = """
    from pathlib import Path
    from atoll.services import base
    from atoll.services.keystone import service as keystone
    directory = Path(sys.argv[1])
    base.preload()
    keystone._make_template(directory)
    tell(None)
"""

SERVE = """
    from pathlib import Path
    from atoll.services import base
    directory = Path(sys.argv[1])
    base.preload()

    import jwt, time
    from keystone.common import jwt_utils
    from werkzeug.test import Client
    from atoll.services.keystone import service as ours
    from atoll.services.contract import Settings

    settings = Settings.load(directory)
    client = Client(ours.application(settings))

    def call(method, path, body=None, token=None, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()} | ({"X-Auth-Token": token} if token else {})
        answer = client.open("/v3" + path, method=method, json=body, headers=headers)
        return answer.status_code, answer.get_json(silent=True) or {}, answer.headers

    def sign_in(name, password, project):
        user = {"name": name, "domain": {"id": "default"}, "password": password}
        scope = {"project": {"name": project, "domain": {"id": "default"}}}
        identity = {"methods": ["password"], "password": {"user": user}}
        status, _, headers = call("POST", "/auth/tokens", {"auth": {"identity": identity, "scope": scope}})
        assert status == 201, status
        return headers["X-Subject-Token"]

    admin = sign_in("admin", settings.secrets["admin"], "admin")
    project = call("POST", "/projects", {"project": {"name": "p", "domain_id": "default"}}, admin)[1]["project"]["id"]
    user = call("POST", "/users", {"user": {"name": "u", "domain_id": "default", "password": "secret"}}, admin)[1]["user"]["id"]
    role = call("GET", "/roles?name=member", None, admin)[1]["roles"][0]["id"]
    assert call("PUT", f"/projects/{project}/users/{user}/roles/{role}", None, admin)[0] == 204
    tenant = sign_in("u", "secret", "p")
    trust = {"trustor_user_id": user, "trustee_user_id": user, "project_id": project, "impersonation": False, "roles": [{"name": "member"}]}
    found = {}

    def trusts(**more):
        return call("POST", "/OS-TRUST/trusts", {"trust": trust | more}, tenant)
"""

TENANT = """
    found["junk"] = [trusts(junk="x" * size)[0] for size in (1, 5_000, 110_000)]
    made = []
    while len(made) < 200:
        status, body, _ = trusts()
        if status != 201:
            break
        made.append(body["trust"]["id"])
    found["trusts"] = [len(made), status, body["error"]["message"]]
    found["deleted"] = call("DELETE", f"/OS-TRUST/trusts/{made[0]}", None, tenant)[0]
    found["again"] = trusts()[0]
    path = f"/users/{user}/application_credentials"
    found["credentials"] = [
        call("POST", path, {"application_credential": {"name": f"a{size}", "description": "x" * size}}, tenant)[0] for size in (4096, 4097)
    ]
    rules = [{"service": "compute", "method": "GET", "path": f"/{number}"} for number in range(300)]
    found["rules"] = [
        call("POST", path, {"application_credential": {"name": f"r{start}", "access_rules": rules[start : start + 150]}}, tenant)[0]
        for start in (0, 150)
    ]
    credential = {"credential": {"type": "x", "blob": "b", "user_id": user}}
    found["blobs"] = sorted({call("POST", "/credentials", credential, tenant)[0] for _ in range(70)})
    found["password"] = call("POST", f"/users/{user}/password", {"user": {"password": "other", "original_password": "secret"}})[0]
    found["user"] = call("PATCH", f"/users/{user}", {"user": {"note": "x" * 5000}}, admin)
    found["user"] = [found["user"][0], found["user"][1]["error"]["message"]]
    tell(found)
"""

CLOCK = """
    from atoll.mesh.agreed_time import FILE, TimeWriter, since_boot_ns
    settings.sockets.mkdir(exist_ok=True)
    writer = TimeWriter(settings.sockets / FILE)

    def ahead(seconds):
        writer.write(time.time_ns() - since_boot_ns() + seconds * 10**9)

    def status(password, name="v"):
        identity = {"methods": ["password"], "password": {"user": {"name": name, "domain": {"id": "default"}, "password": password}}}
        return call("POST", "/auth/tokens", {"auth": {"identity": identity}})[0]

    def good(token):
        return call("GET", "/auth/tokens", None, admin, X_Subject_Token=token)[0]

    ahead(0)
    ahead(3600)
    late = sign_in("u", "secret", "p")
    own = sign_in("u", "secret", "p")
    other = call("POST", "/users", {"user": {"name": "v", "domain_id": "default", "password": "first"}}, admin)[1]["user"]
    ahead(0)
    found["late"] = good(late)
    found["revoked itself"] = [call("DELETE", "/auth/tokens", None, own, X_Subject_Token=own)[0], good(own)]
    found["set"] = [call("PATCH", f"/users/{other['id']}", {"user": {"password": "second"}}, admin)[0], status("first"), status("second")]
    change = {"user": {"original_password": "second", "password": "third"}}
    found["changed"] = [call("POST", f"/users/{other['id']}/password", change)[0], status("second"), status("third")]
    found["disabled"] = call("PATCH", f"/users/{user}", {"user": {"enabled": False}}, admin)[0]
    found["enabled"] = call("PATCH", f"/users/{user}", {"user": {"enabled": True}}, admin)[0]
    found["late then"] = good(late)
    found["new"] = good(sign_in("u", "secret", "p"))
    ahead(-3600)
    found["behind"] = good(sign_in("u", "secret", "p"))
    tell(found)
"""

FROM_THE_FUTURE = """
    import sqlite3
    nobody = call("POST", "/users", {"user": {"name": "n", "domain_id": "default"}}, admin)[1]["user"]["id"]
    with sqlite3.connect(settings.data / "keystone.db") as database:
        dates = ["9999-12-31 23:59:59.999999"] * 2
        database.execute("INSERT INTO revocation_event (user_id, issued_before, revoked_at) VALUES (?, ?, ?)", (nobody, *dates))
    token = sign_in("u", "secret", "p")
    found["disabled"] = call("PATCH", f"/users/{user}", {"user": {"enabled": False}}, admin)[0]
    found["token"] = call("GET", "/auth/tokens", None, admin, X_Subject_Token=token)[0]
    tell(found)
"""

FOREIGN = """
    def token_of(site, user, project):
        claims = {"sub": user, "iat": int(time.time()), "exp": int(time.time()) + 3600, "openstack_methods": ["password"],
                  "openstack_audit_ids": ["audit-" + site], "openstack_project_id": project}
        return jwt.encode(claims, (directory / f"{site}.key").read_text(), algorithm="ES256")

    for site in ("lyon", "nice"):
        jwt_utils.create_jws_keypair(str(directory / f"{site}.key"), str(settings.data / f"keys/public/{site}.pem"), algorithm="ES256")
    administrator = call("GET", "/users?name=admin", None, admin)[1]["users"][0]["id"]
    administration = call("GET", "/projects?name=admin", None, admin)[1]["projects"][0]["id"]
    for site in ("lyon", "nice"):
        powerful, ordinary = token_of(site, administrator, administration), token_of(site, user, project)
        found[site] = [
            call("GET", "/users", None, powerful)[0],
            call("GET", "/auth/tokens", None, admin, X_Subject_Token=powerful)[0],
            call("GET", f"/users/{user}", None, ordinary)[0],
            call("GET", "/auth/tokens", None, admin, X_Subject_Token=ordinary)[0],
        ]
    for domain in ("d" * 32, "e" * 32):
        call("POST", "/domains", {"domain": {"name": domain, "explicit_domain_id": domain}}, admin)
    found["homed"] = [
        call("POST", "/users", {"user": {"name": "h", "domain_id": domain}}, admin)[0] for domain in ("d" * 32, "e" * 32, "default")
    ]
    tell(found)
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    directory = tmp_path_factory.mktemp("template")
    inside(TEMPLATE, str(directory))
    return directory / "keystone.db"


@pytest.fixture
def settings(tmp_path, template) -> Settings:
    ports = {endpoint: 15000 + offset for endpoint, offset in PORT_OFFSETS.items()}
    trust = {"trust": {"lyon": "local-admin"}, "homed": {f"domain/{'d' * 32}": ["lyon"], f"domain/{'e' * 32}": ["paris"]}}
    made = Settings("paris", tmp_path, template.parent, "127.0.0.1", ports, {each: f"paris-{each}" for each in SECRETS}, **trust)
    (made.etc / "keystone" / "policy.d").mkdir(parents=True)
    made.data.mkdir()
    shutil.copyfile(template, made.data / "keystone.db")
    for path, text in keystone.configuration(made).items():
        (made.etc / path).write_text(text)
    made.save()
    return made


def test_a_tenant_is_told_the_bounds(settings):
    found = inside(SERVE + TENANT, str(settings.directory))
    assert found["junk"] == [400, 400, 413]
    assert found["trusts"][:2] == [TRUSTS_PER_USER, 403]
    assert "\n" not in found["trusts"][2]
    assert (found["deleted"], found["again"]) == (204, 201)
    assert found["credentials"] == [201, 400]
    assert found["rules"] == [201, 403]
    assert found["blobs"] == [201, 403]
    assert found["password"] == 204
    assert found["user"] == [400, "The field 'note' of the user has 5000 characters: 4096 are allowed."]


def test_records_made_while_the_clock_was_ahead_can_be_changed_and_revoked(settings):
    found = inside(SERVE + CLOCK, str(settings.directory))
    assert found["late"] == 200
    assert found["revoked itself"] == [204, 404]
    assert found["set"] == [200, 401, 201]
    assert found["changed"] == [204, 401, 201]
    assert (found["disabled"], found["enabled"]) == (200, 200)
    assert found["late then"] == 404
    assert found["new"] == 200
    assert found["behind"] == 200


def test_a_revocation_from_the_far_future_keeps_nobody_out_and_no_token_alive(settings):
    """The revocation has come from another site."""
    assert inside(SERVE + FROM_THE_FUTURE, str(settings.directory)) == {"disabled": 200, "token": 404}


def test_administrators_of_other_sites_are_kept_to_their_rights(settings):
    found = inside(SERVE + FOREIGN, str(settings.directory))
    assert found["lyon"] == [401, 404, 200, 200]
    assert found["nice"] == [200, 200, 200, 200]
    assert found["homed"] == [403, 201, 201]
    lines = [json.loads(line) for line in (settings.directory / "log" / AUDIT_FILE).read_text().splitlines()]
    assert {(line["site"], line["outcome"]) for line in lines} == {("lyon", "refused"), ("nice", "allowed")}
    assert {line["request"] for line in lines if line["site"] == "nice"} == {"GET /v3/users", "GET /v3/auth/tokens"}
