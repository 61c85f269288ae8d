"""Tokens of other sites' administrators, with keys of several sites, and changes of projects that are homed elsewhere."""

import json
import stat

from upstream import inside

TOKENS = """
    import time
    from pathlib import Path
    from types import SimpleNamespace
    import jwt
    import keystone.conf
    from keystone import exception
    from keystone.common import jwt_utils
    from keystone.token.providers.jws import core
    from atoll.services.patches.keystone import tokens as keystone_tokens
    from atoll.services.patches.keystone.trust import Audit, Judge, guarded

    directory = Path(sys.argv[1])
    private, public = directory / "private", directory / "public"
    private.mkdir(); public.mkdir()
    for site in ("public", "lyon", "nice"):
        jwt_utils.create_jws_keypair(str(directory / f"{site}.key"), str(public / f"{site}.pem"), algorithm="ES256")
    (private / "private.pem").symlink_to(directory / "public.key")
    (public / "aix.pem").write_text((public / "nice.pem").read_text())  # aix shows nice's key as its own
    conf = keystone.conf.CONF
    keystone.conf.configure(conf)
    conf([])
    conf.set_override("jws_private_key_repository", str(private), "jwt_tokens")
    conf.set_override("jws_public_key_repository", str(public), "jwt_tokens")
    keystone_tokens.install()
    formatter = core.JWSFormatter()

    def validate(self, token_id, window_seconds=0):
        user = formatter.validate_token(token_id)[0]
        names = user.split("+")
        system = "all" if "system" in names else None
        roles = [{"name": name} for name in names if name != "system"]
        return SimpleNamespace(user_id=user, project_id="p", domain_id=None, system=system, roles=roles, audit_id="a")

    judge = Judge("paris", ["lyon", "aix"], Audit(directory / "log/admin-audit.jsonl"))
    check = guarded(validate, judge, keystone_tokens.site_of("paris", ["lyon", "aix"]))
    def look(site, user):
        claims = {"sub": user, "iat": 1, "exp": int(time.time()) + 60, "openstack_methods": ["password"], "openstack_audit_ids": ["a"]}
        token = jwt.encode(claims, (directory / f"{site}.key").read_text(), algorithm="ES256")
        try:
            return check(None, token, window_seconds=0).user_id
        except exception.TokenNotFound:
            return "refused"
    found = [look(site, user) for site in ("public", "lyon", "nice") for user in ("member", "admin+member", "service", "reader+system")]
    tell(found)
"""


def test_an_administrators_token_of_a_limited_site_is_valid_at_that_site_alone(tmp_path):
    found = inside(TOKENS, str(tmp_path))
    everything = ["member", "admin+member", "service", "reader+system"]
    assert found[:4] == everything, "nice must accept its own tokens"
    assert found[4:8] == ["member", "refused", "refused", "refused"], "tokens of lyon's administrators must be refused"
    assert found[8:] == everything, "nice's tokens must be accepted, although aix publishes the same key"
    path = tmp_path / "log/admin-audit.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["site"], line["outcome"], line["user"]) for line in lines] == [
        *(("lyon", "refused", user) for user in everything[1:]),
        *(("nice", "allowed", user) for user in everything[1:]),
    ]
    assert {"time", "project", "domain", "system", "roles", "audit_id", "request"} <= lines[0].keys()
    assert lines[0]["roles"] == ["admin"]


def test_the_audit_log_is_bounded(tmp_path):
    found = inside(
        """
        from pathlib import Path
        from atoll.services.patches.keystone import trust as keystone_trust
        keystone_trust._AUDIT_BYTES = 10_000
        audit = keystone_trust.Audit(Path(sys.argv[1]) / "log/a.jsonl")
        for number in range(2000):
            audit.note(site="lyon", text="x" * 100)
        files = sorted(path for path in (Path(sys.argv[1]) / "log").iterdir())
        tell([len(files), max(path.stat().st_size for path in files)])
        """,
        str(tmp_path),
    )
    assert found[0] == 5
    assert found[1] <= 10_000


HOMES = """
    import io
    from types import SimpleNamespace
    from keystone import exception
    from keystone.common import context, provider_api
    from atoll.services.patches.keystone.trust import HomeGuard

    domains = {"u": "physics", "b": "default"}
    projects = {"physics": None, "default": None, "lab": "physics", "web": "default", "homed": "default", "below": "default"}
    parents = {"below": ["homed"]}
    def get(table, error):
        def find(id):
            if id not in table:
                raise error
            return {"id": id, "domain_id": table[id]}
        return find
    providers = {
        "identity_api": SimpleNamespace(
            get_user=get(domains, exception.UserNotFound(user_id="?")), get_group=get(domains, exception.GroupNotFound(group_id="?"))
        ),
        "resource_api": SimpleNamespace(get_project=get(projects, exception.ProjectNotFound(project_id="?")),
                                        list_project_parents=lambda id: [{"id": each} for each in parents.get(id, [])]),
        "role_api": SimpleNamespace(get_role=get({"r": None}, exception.RoleNotFound(role_id="?"))),
    }
    for name, provider in providers.items():
        provider_api.ProviderAPIs._register_provider_api(name, provider)
    def keystone(environ, start):
        start("200 OK", [])
        return [b""]
    guard = HomeGuard(keystone, "lyon", {"domain/physics": ["paris", "nice"], "project/homed": ["paris"], "domain/web": ["lyon"]})
    answers = []
    for method, path, body in json.loads(sys.argv[1]):
        text = json.dumps(body).encode() if body else b""
        environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "wsgi.input": io.BytesIO(text)}
        environ["CONTENT_LENGTH"] = str(len(text)) if body else ""
        environ[context.REQUEST_CONTEXT_ENV] = SimpleNamespace(user_id="u" if "TRUST" in path else "b", roles=[])
        told = []
        answer = b"".join(guard(environ, lambda status, headers: told.append(status)))
        answers.append([int(told[0].split()[0]), answer.decode()])
    tell(answers)
"""


def test_changes_of_projects_homed_elsewhere_are_refused():
    elsewhere = [
        ("PATCH", "/v3/users/u", {"user": {"enabled": False}}),
        ("DELETE", "/v3/groups/u", None),
        ("POST", "/v3/users", {"user": {"name": "x", "domain_id": "physics"}}),
        ("POST", "/v3/users/u/password", {"user": {"password": "x"}}),
        ("POST", "/v3/users/u/application_credentials", {"application_credential": {"name": "x"}}),
        ("PUT", "/v3/projects/lab/users/b/roles/r", None),
        ("PUT", "/v3/OS-INHERIT/domains/physics/users/b/roles/r/inherited_to_projects", None),
        ("PATCH", "/v3/domains/physics", {"domain": {"enabled": False}}),
        ("POST", "/v3/projects", {"project": {"name": "x", "parent_id": "homed"}}),
        ("PUT", "/v3/projects/below/tags/x", None),
        ("POST", "/v3/OS-TRUST/trusts", {"trust": {}}),
    ]
    here = [
        ("GET", "/v3/users/u", None),
        ("POST", "/v3/auth/tokens", {"auth": {}}),
        ("PATCH", "/v3/users/b", {"user": {"enabled": False}}),
        ("PATCH", "/v3/users/nobody", {"user": {"enabled": False}}),
        ("POST", "/v3/users", {"user": {"name": "x", "domain_id": "default"}}),
        ("PUT", "/v3/projects/web/users/u/roles/r", None),
        ("DELETE", "/v3/auth/tokens", None),
    ]
    found = inside(HOMES, json.dumps([*elsewhere, *here]))
    assert [status for status, _ in found] == [403] * len(elsewhere) + [200] * len(here)
    assert "administered at nice, paris" in found[0][1]
