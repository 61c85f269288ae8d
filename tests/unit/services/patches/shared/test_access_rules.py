"""Access rules of application credentials, with keystonemiddleware's own check."""

import inspect
import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from keystonemiddleware import auth_token
from keystonemiddleware.auth_token import _exceptions, _request

from atoll.services.patches.shared import access_rules
from atoll.services.patches.shared.access_rules import behind_prefix, matches

SERVICES = {"compute": "/v2.1", "network": "/v2.0", "image": "/v2", "placement": "", "load-balancer": "/v2.0", "identity": "/v3"}
PREFIXES = ("", "/{service}", "/scope/brest%26metz/{service}")

upstream_matches = auth_token._path_matches


class Protocol(auth_token.BaseAuthProtocol):
    """The middleware of one service; the name of a token lists its roles."""

    validate_allowed_request = behind_prefix(auth_token.BaseAuthProtocol.validate_allowed_request)

    def _do_fetch_token(self, token, **_more):
        if token == "garbage":
            raise _exceptions.InvalidToken
        return {}, type("Reference", (), {"role_names": token.split("+")})


def allowed(service: str, request: tuple[str, str], *rules: dict | tuple[str, str], prefix: str = "", service_token: str = "") -> bool:
    """Return whether access rules allow a request."""
    method, path = request
    environ = {"X-Service-Token": service_token} if service_token else {}
    asked = _request._AuthTokenRequest.blank(path, method=method, headers=environ)
    asked.environ["SCRIPT_NAME"] = prefix
    if prefix:
        asked.environ["HTTP_X_FORWARDED_PREFIX"] = prefix
    if service_token:
        asked.service_token_valid = service_token != "garbage"
    said = [rule if isinstance(rule, dict) else {"service": service, "method": rule[0], "path": rule[1]} for rule in rules]
    token = {"catalog": [{"type": each} for each in SERVICES], "application_credential": {"access_rules": said}}
    try:
        Protocol(None, service_type=service).validate_allowed_request(asked, token)
    except _exceptions.InvalidToken:
        return False
    return True


@pytest.fixture(autouse=True)
def linear(monkeypatch):
    monkeypatch.setattr(auth_token, "_path_matches", matches)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_form_of_rule_at_every_service_behind_every_prefix(service, prefix):
    prefix, base = prefix.format(service=service), SERVICES[service]
    one, all_ = f"{base}/things/1", f"{base}/things"
    for rule, paths in {
        all_: {all_},
        one: {one},
        f"{base}/things/*": {one},
        f"{base}/things/{{thing_id}}": {one},
        f"{base}/**": {one, all_},
        "/**": {one, all_},
        f"{base}/*": {all_},
        f"{base}/*/1": {one},
    }.items():
        for path in (one, all_):
            assert allowed(service, ("GET", path), ("GET", rule), prefix=prefix) == (path in paths), (rule, path)
            assert not allowed(service, ("DELETE", path), ("GET", rule), prefix=prefix)
            assert not allowed(service, ("GET", path), {"service": "other", "method": "GET", "path": rule}, prefix=prefix)
            assert allowed(service, ("GET", path), ("GET", prefix + rule), prefix=prefix) == (path in paths), (rule, path)
    assert not allowed(service, ("GET", all_), prefix=prefix), "an empty list of rules must allow nothing"


def test_rule_for_one_scope_is_for_that_scope():
    rule = ("POST", "/scope/metz/compute/v2.1/servers")
    assert allowed("compute", ("POST", "/v2.1/servers"), rule, prefix="/scope/metz/compute")
    assert not allowed("compute", ("POST", "/v2.1/servers"), rule, prefix="/scope/pau/compute")
    assert not allowed("compute", ("POST", "/v2.1/servers"), rule, prefix="/compute")


def test_only_a_services_own_request_needs_no_rule():
    asked = ("POST", "/v2/images")
    assert allowed("image", asked, service_token="service")
    for other in ("garbage", "gateway_image", "gateway_image+service"):
        assert not allowed("image", asked, service_token=other), other
        assert allowed("image", asked, ("POST", "/v2/images"), service_token=other)


def test_credential_without_rules_is_not_restricted():
    request = _request._AuthTokenRequest.blank("/v2/images")
    protocol = Protocol(None, service_type="image")
    protocol.validate_allowed_request(request, {"application_credential": {}})
    protocol.validate_allowed_request(request, {})


PIECES = st.sampled_from([*string.ascii_lowercase[:3], "/", "-", "*", "**", "{x}", "{", "}", "1"])


@given(st.lists(PIECES, max_size=10).map("".join), st.text("abc/-1", max_size=12))
def test_paths_match_as_upstream_matches_them(pattern, path):
    assert matches(path, pattern) == bool(upstream_matches(path, pattern))


@pytest.mark.parametrize("pattern", ["/(a+)+b", "/" + "**/" * 40, "/" + "a**" * 40])
def test_no_rule_takes_long(pattern):
    began = time.monotonic()
    assert not matches("/" + "a" * 2000, pattern + "!")
    assert time.monotonic() - began < 2


def test_install_is_done_once(monkeypatch):
    monkeypatch.setattr(auth_token.BaseAuthProtocol, "validate_allowed_request", auth_token.BaseAuthProtocol.validate_allowed_request)
    access_rules.install()
    first = auth_token.BaseAuthProtocol.validate_allowed_request
    access_rules.install()
    assert auth_token.BaseAuthProtocol.validate_allowed_request is first


def test_upstream_compares_the_path_with_its_prefix(monkeypatch):
    """If this fails, patches/shared/access_rules.py need not take the prefix away."""
    rule, request = ("GET", "/v2.1/servers"), ("GET", "/v2.1/servers")
    assert allowed("compute", request, rule, prefix="/compute")
    monkeypatch.setattr(Protocol, "validate_allowed_request", inspect.unwrap(Protocol.validate_allowed_request))
    assert not allowed("compute", request, rule, prefix="/compute")
    assert allowed("compute", request, rule)
