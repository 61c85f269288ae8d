"""Bounds on requests to Keystone, and the gaps in upstream's own schemas."""

import json
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from upstream import inside

from atoll.identity import bounds as replicated
from atoll.services.keystone import service as keystone
from atoll.services.patches.keystone import bounds as keystone_bounds
from atoll.services.patches.keystone.bounds import Budget

DRIVE = """
    import io
    from pathlib import Path
    from types import SimpleNamespace
    from keystone.common import context, provider_api
    from keystone import exception
    from atoll.services.patches.keystone import bounds as keystone_bounds
    from atoll.services.patches.keystone.bounds import Bounds

    requests, mark = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    trusts, rules = [], []
    def user(id):
        if id != "bob":
            raise exception.UserNotFound(user_id=id)
        return {"id": "bob", **{f"x{number}": "y" * 3000 for number in range(5)}}
    providers = {
        "trust_api": SimpleNamespace(list_trusts_for_trustor=lambda user: trusts),
        "application_credential_api": SimpleNamespace(list_access_rules_for_user=lambda user: rules),
        "identity_api": SimpleNamespace(get_user=user),
    }
    for name, provider in providers.items():
        provider_api.ProviderAPIs._register_provider_api(name, provider)

    seen = []
    def keystone(environ, start):
        seen.append(environ["wsgi.input"].read().decode())
        start("200 OK", [])
        return [b""]

    bounds, answers = Bounds(keystone, mark), []
    for request in requests:
        if "trusts" in request: trusts[:] = [1] * request["trusts"]
        if "full" in request: mark.write_text(str(request["full"]))
        body = request.get("text") or json.dumps(request["body"]) if "body" in request or "text" in request else ""
        environ = {"REQUEST_METHOD": request.get("method", "POST"), "PATH_INFO": request["path"], "wsgi.input": io.BytesIO(body.encode())}
        if body and request.get("chunked"):
            environ["HTTP_TRANSFER_ENCODING"] = "chunked"
        elif body:
            environ["CONTENT_LENGTH"] = str(len(body.encode()))
        if request.get("user", "u"):
            who = SimpleNamespace(user_id=request.get("user", "u"), roles=[request.get("role", "member")])
            environ[context.REQUEST_CONTEXT_ENV] = who
        told = []
        for _ in range(request.get("times", 1)):
            text = b"".join(bounds(environ, lambda status, headers: told.append(status)))
        answers.append([int(told[-1].split()[0]), json.loads(text)["error"]["message"] if text else ""])
    tell([answers, seen])
"""

TRUST = {"trustor_user_id": "u", "trustee_user_id": "u", "impersonation": False, "roles": [{"name": "member"}]}
TRUSTS = "/v3/OS-TRUST/trusts"


def _drive(directory, requests):
    path = directory / "requests.json"
    path.write_text(json.dumps(requests))
    return inside(DRIVE, str(path), str(directory / "full"))


@pytest.fixture
def drive(tmp_path):
    class Drive:
        """Sends requests; `seen` has the bodies that reached Keystone."""

        seen: ClassVar[list[str]] = []

        def __call__(self, *requests: dict[str, object]) -> list[tuple[int, str]]:
            """Return the status and the message of each request's answer; 200 comes from Keystone."""
            answers, Drive.seen = _drive(tmp_path, requests)
            return [(status, text) for status, text in answers]

    return Drive()


def test_ordinary_requests_pass(drive):
    found = drive(
        {"path": TRUSTS, "body": {"trust": TRUST}},
        {"path": "/v3/users/u/application_credentials", "body": {"application_credential": {"name": "a", "description": "x" * 4096}}},
        {"path": "/v3/auth/tokens", "body": {"auth": {"identity": "x" * 60_000}}, "user": ""},
        {"path": "/v3/auth/tokens", "method": "DELETE"},
        {"path": "/v3/projects", "body": {"project": {"name": "p", "tags": ["x" * 255] * 80}}, "role": "admin"},
        {"path": "/v3/OS-FEDERATION/mappings/m", "method": "PUT", "body": {"mapping": {"rules": "x" * 60_000}}, "role": "admin"},
        {"path": "/v3/users/nobody", "method": "PATCH", "body": {"user": {"email": "e"}}, "role": "admin"},
        {"path": "/v3/users/u/password", "body": {"user": {"password": "a", "original_password": "b"}}, "user": ""},
        {"path": "/v3/users", "text": "{no json"},
        {"path": "/v3/users", "text": "[" * 10_000},
        {"path": TRUSTS, "body": {"trust": TRUST}, "chunked": True},
    )
    assert [status for status, _ in found] == [200] * len(found)


def test_bodies_pass_unchanged(drive):
    body = json.dumps({"trust": TRUST})
    drive(*({"path": TRUSTS, "text": body, "chunked": chunked} for chunked in (False, True)))
    assert drive.seen == [body, body]


LARGE = [
    ({"path": TRUSTS, "body": {"trust": TRUST | {"junk": "x" * 110_000}}}, 413),
    ({"path": TRUSTS, "body": {"trust": TRUST | {"junk": "x"}}}, 400),
    ({"path": TRUSTS, "body": {"trust": TRUST | {"roles": [{"name": "x" * 20_000}]}}, "chunked": True}, 413),
    ({"path": TRUSTS, "body": {"trust": TRUST}, "trusts": 64}, 403),
    ({"path": "/v3/users/u/application_credentials", "body": {"application_credential": {"description": "x" * 4097}}}, 400),
    ({"path": "/v3/users/u/application_credentials", "body": {"application_credential": {"access_rules": [{}] * 257}}}, 403),
    ({"path": "/v3/users", "body": {"user": {"email": {"deep": ["x" * 5000]}}}, "role": "admin"}, 400),
    ({"path": "/v3/users", "body": {"user": {str(number): 1 for number in range(65)}}, "role": "admin"}, 400),
    ({"path": "/v3/users/bob", "method": "PATCH", "body": {"user": {"note": "x" * 3000}}, "role": "admin"}, 400),
    ({"path": "/v3/credentials", "body": {"credential": {"blob": "x" * 17_000, "type": "x"}}}, 413),
    ({"path": "/v3/projects/p/tags", "method": "PUT", "body": {"tags": ["x" * 50_000]}}, 413),
]


def test_requests_beyond_the_bounds_are_refused_in_one_line(drive):
    found = drive(*(request for request, _ in LARGE))
    assert [status for status, _ in found] == [status for _, status in LARGE]
    assert drive.seen == []
    for _, text in found:
        assert 0 < len(text) < 300
        assert "\n" not in text


def test_a_user_has_so_many_changes_a_day_and_an_administrator_has_no_limit(drive):
    change = {"path": TRUSTS, "body": {"trust": TRUST}}
    revoke = {"path": "/v3/auth/tokens", "method": "DELETE"}
    found = drive(
        revoke | {"times": keystone_bounds.REVOCATIONS_PER_DAY},
        revoke,
        revoke | {"user": "another"},
        revoke | {"user": "admin", "role": "admin", "times": 500},
        change | {"method": "DELETE", "times": keystone_bounds.CHANGES_PER_DAY, "user": "third"},
        change | {"user": "third"},
    )
    assert [status for status, _ in found] == [200, 429, 200, 200, 200, 429]


def test_a_cloud_that_is_nearly_full_takes_only_what_makes_it_smaller(drive):
    user = {"path": "/v3/users", "body": {"user": {"name": "a"}}}
    found = drive(
        user | {"full": 80},
        user | {"role": "admin"},
        {"path": f"{TRUSTS}/t", "method": "DELETE"},
        user | {"full": 96, "role": "admin"},
        {"path": "/v3/users/a", "method": "DELETE", "role": "admin"},
        {"path": "/v3/auth/tokens", "body": {"auth": {}}},
    )
    assert [status for status, _ in found] == [403, 200, 200, 403, 200, 200]
    assert "80 % full" in found[0][1]


def test_accepted_requests_can_be_replicated():
    assert keystone_bounds.MAX_BODY <= replicated.MAX_RECORD_BYTES // 2
    assert max(keystone_bounds._BODIES.values()) <= replicated.MAX_DOCUMENT
    sections = keystone._sections(keystone.Path("/d"), "sqlite://")
    assert sections["token"]["expiration"] == replicated.TOKEN_LIFETIME_S
    for section in ("application_credential", "credential"):
        assert sections[section]["user_limit"] == keystone_bounds.CREDENTIALS_PER_USER


@given(st.lists(st.integers(0, 3600), max_size=300))
def test_a_budget_is_never_exceeded(pauses):
    now = 0.0
    budget = Budget(24, lambda: now)
    spent = 0
    for pause in pauses:
        now += pause
        spent += budget.spend("u")
        assert spent <= 24 + now / 3600


def test_a_budget_fills_again():
    now = 0.0
    budget = Budget(24, lambda: now)
    assert [budget.spend("u") for _ in range(25)] == [True] * 24 + [False]
    assert budget.spend("v")
    now = 3600.0
    assert [budget.spend("u"), budget.spend("u")] == [True, False]


def test_upstream_still_takes_anything_in_a_trust():
    """If this fails, patches/keystone/bounds.py need not bound trusts."""
    found = inside(
        """
        from keystone.trust import schema
        tell(schema.trust_create_request_body["properties"]["trust"]["additionalProperties"])
        """
    )
    assert found is True


def test_the_bounds_are_behind_the_middleware_that_identifies_the_caller():
    found = inside(
        """
        from pathlib import Path
        from keystone.server.flask import core
        from atoll.services.patches.keystone import bounds as keystone_bounds
        from atoll.services.patches.keystone import request_context
        request_context.install()
        keystone_bounds.install(Path("/run"))
        chain = core._KEYSTONE_MIDDLEWARE
        tell([chain[-2].__name__, type(chain[-1](None)).__name__])
        """
    )
    assert found == ["ThreadedAuthContextMiddleware", "Bounds"]
