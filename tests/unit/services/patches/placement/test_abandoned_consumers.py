"""Consumers' records without allocations, with upstream's whole application on a database of its own."""

import pytest
from upstream import inside

REQUESTS = """
    import os, pathlib, tempfile
    from atoll.services.placement.service import make_schema

    root = pathlib.Path(tempfile.mkdtemp())
    url = f"sqlite:///{root}/placement.db"
    make_schema({"placement": url})
    from oslo_config import cfg
    from placement import conf, db_api, deploy
    from placement.objects import allocation
    import webob

    config = cfg.ConfigOpts()
    conf.register_opts(config)
    settings = root / "placement.conf"
    settings.write_text(f"[placement_database]\\nconnection = {url}\\n[api]\\nauth_strategy = noauth2\\n")
    config([], project="placement", default_config_files=[str(settings)])
    db_api.configure(config)
    application = deploy.loadapp(config)

    HOST, OLD, NEW = (f"{digit * 8}-{digit * 4}-{digit * 4}-{digit * 4}-{digit * 12}" for digit in "123")

    def ask(method, path, body=None):
        headers = {"X-Auth-Token": "admin", "OpenStack-API-Version": "placement 1.36", "Content-Type": "application/json"}
        request = webob.Request.blank(path, method=method, headers=headers)
        if body is not None:
            request.json = body
        answer = request.get_response(application)
        return answer.status_code, answer.json if answer.body else None

    def holds(consumer):
        return bool(ask("GET", f"/allocations/{consumer}")[1]["allocations"])

    def give(cpus, generation=None):
        return {
            "allocations": {HOST: {"resources": {"VCPU": cpus}}} if cpus else {},
            "project_id": "p", "user_id": "u", "consumer_generation": generation,
        }

    ask("POST", "/resource_providers", {"name": "host", "uuid": HOST})
    ask("PUT", f"/resource_providers/{HOST}/inventories", {"resource_provider_generation": 0, "inventories": {"VCPU": {"total": 8}}})

    replace = allocation.replace_all

    def killed(*_arguments):
        raise SystemExit("killed")

    def interrupted(method, path, body):
        allocation.replace_all = killed
        try:
            ask(method, path, body)
        except SystemExit:
            return True
        finally:
            allocation.replace_all = replace

    def tried(interrupt, again):
        was = interrupted(*interrupt)
        return [was, ask(*again)[0]]

    def cases():
        for consumer in (OLD, NEW):
            if holds(consumer):
                generation = ask("GET", f"/allocations/{consumer}")[1]["consumer_generation"]
                ask("PUT", f"/allocations/{consumer}", give(0, generation))
        put = ("PUT", f"/allocations/{OLD}", give(1))
        found = {"put": tried(put, put), "held": [holds(OLD)]}
        ask(*put)
        generation = ask("GET", f"/allocations/{OLD}")[1].get("consumer_generation")
        move = ("POST", "/allocations", {OLD: give(0, generation), NEW: give(1)})
        found["move"] = tried(move, move)
        found["held"] += [holds(OLD), holds(NEW)]
        found["again"] = ask("PUT", f"/allocations/{NEW}", give(2))[0]
        return found
"""

OURS = """
    from atoll.services.patches.placement import abandoned_consumers
    abandoned_consumers.install()
    tell(cases())
"""


@pytest.fixture(scope="module")
def found():
    return inside(REQUESTS + OURS)


def test_a_consumer_that_a_killed_placement_left_gets_allocations(found):
    assert found["put"] == [True, 204]
    assert found["move"] == [True, 204]
    assert found["held"] == [True, False, True]


def test_a_consumer_with_allocations_is_not_overwritten(found):
    assert found["again"] == 409


def test_upstream_refuses_it():
    """If this fails, upstream accepts such requests itself, and services/patches/placement/abandoned_consumers.py can go."""
    upstream = inside(REQUESTS + "\n    tell(cases())")
    assert upstream["put"] == [True, 409]
    assert upstream["held"][0] is False
