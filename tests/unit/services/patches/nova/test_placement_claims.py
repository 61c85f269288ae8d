"""A claim that takes one request, in Nova's real client of Placement over a double of Placement."""

import pytest
from upstream import inside

CLIENT = """
    from nova import monkey_patch
    monkey_patch.patch(backend="threading")
    import uuid
    import nova.conf
    from nova import config, context, exception
    from nova.scheduler.client import report
    from atoll.services.patches.nova import placement_claims

    config.parse_args(["nova"], default_config_files=[], init_rpc=False)
    report.SchedulerReportClient._create_client = lambda self: None
    report.time.sleep = lambda seconds: None
    HOST = "22222222-0000-0000-0000-000000000000"
    OTHER = "44444444-0000-0000-0000-000000000000"
    ASKED = {"allocations": {HOST: {"resources": {"VCPU": 1}}}}

    class Answer:
        def __init__(self, status, body=None):
            self.status_code, self.body, self.text = status, body, str(body)
        def __bool__(self):
            return self.status_code < 400
        def json(self):
            return self.body

    class Placement:
        # Consumers with generations, as Placement keeps them.
        def __init__(self, busy=0):
            self.consumers, self.calls, self.busy = {}, [], busy
        def get(self, url):
            self.calls.append(f"GET {url.rpartition('/')[0]}")
            held, generation = self.consumers.get(url, ({}, None))
            more = {"consumer_generation": generation, "project_id": "p", "user_id": "u"}
            return Answer(200, {"allocations": held} | (more if held else {}))
        def put(self, url, payload):
            self.calls.append(f"PUT {url.rpartition('/')[0]}")
            if self.busy:
                self.busy -= 1
                return self.refused("resource provider generation conflict")
            if self.consumers.get(url, ({}, None))[1] != payload["consumer_generation"]:
                return self.refused("consumer generation conflict")
            self.consumers[url] = (payload["allocations"], (payload["consumer_generation"] or 0) + 1)
            return Answer(204)
        def post(self, url, payload):
            if url == "/reshaper":
                return Answer(204)
            for consumer, held in payload.items():
                self.consumers.pop(f"{url}/{consumer}", None)
                if held["allocations"]:
                    self.consumers[f"{url}/{consumer}"] = (held["allocations"], 1)
            return Answer(204)
        def refused(self, why):
            return Answer(409, {"errors": [{"code": "placement.concurrent_update", "detail": why}]})
        def delete(self, url):
            self.calls.append(f"DELETE {url.rpartition('/')[0]}")
            self.consumers.pop(url, None)
            return Answer(204)

    def client(kind, placement):
        # Below the patch's own methods: what goes over the wire.
        for name in ("get", "put", "post", "delete"):
            setattr(BASE, name, lambda self, url, *data, _do=getattr(placement, name), **_more: _do(url, *data))
        return kind()

    BASE = report.SchedulerReportClient
    request = context.RequestContext(user_id="u", project_id="p")

    def claim(one, server, **more):
        return one.claim_resources(request, server, ASKED, "p", "u", "1.36", **more)

    def tried(kind, busy=0, held=False, **more):
        placement = Placement(busy)
        one, server = client(kind, placement), str(uuid.uuid4())
        if held:
            placement.consumers[f"/allocations/{server}"] = ({"33333333-0000-0000-0000-000000000000": {"resources": {"VCPU": 1}}}, 4)
        result = claim(one, server, **more)
        first, second = (one.get_allocations_for_consumer(request, server) for _ in range(2))
        calls = list(placement.calls)
        left = placement.consumers[f"/allocations/{server}"]
        claim(one, again := str(uuid.uuid4()))
        one.delete_allocation_for_instance(request, again, force=True)
        gone = one.get_allocations_for_consumer(request, again)
        claim(one, moved := str(uuid.uuid4()))
        one.move_allocations(request, moved, str(uuid.uuid4()))
        moved = one.get_allocations_for_consumer(request, moved)
        claim(one, later := str(uuid.uuid4()))
        # Another process, such as nova-compute at a compute site whose build failed, releases what the server holds.
        placement.consumers.pop(f"/allocations/{later}")
        other = context.RequestContext(user_id="u", project_id="p")
        later = one.get_allocations_for_consumer(other, later)
        rewritten = {}
        for way in ("put", "reshape"):
            claim(one, server := str(uuid.uuid4()))
            url, allocations = f"/allocations/{server}", {OTHER: {"resources": {"VCPU": 1}}}
            if way == "put":
                one.put_allocations(request, server, {"allocations": allocations, "consumer_generation": 1})
            else:
                placement.consumers[url] = (allocations, 2)
                one.post("/reshaper", {"allocations": {server: {}}, "inventories": {}})
            rewritten[way] = list(one.get_allocations_for_consumer(request, server))
        told = {"later": later, "rewritten": rewritten}
        return told | {"moved": moved, "claimed": result, "first": first, "second": second, "calls": calls, "left": left, "gone": gone}

    tell({
        kind.__name__: {"new": tried(kind), "busy": tried(kind, busy=2), "held": tried(kind, held=True),
                        "forced": tried(kind, held=True, consumer_generation=4)}
        for kind in (BASE, placement_claims.ClaimingClient)
    })
"""


@pytest.fixture(scope="module")
def claims():
    """Answers and requests of upstream's client and of ours, for a new server, a busy host, and a server that holds something."""
    return inside(CLIENT)


@pytest.mark.parametrize("case", ["new", "busy", "held", "forced"])
def test_the_outcome_is_upstreams(claims, case):
    ours, upstreams = claims["ClaimingClient"][case], claims["SchedulerReportClient"][case]
    assert {**ours, "calls": None} == {**upstreams, "calls": None}
    assert ours["claimed"] is True
    assert ours["moved"] == {}, "allocations that moved to a migration must not be read as the server's"
    assert ours["gone"] == {}, "released allocations must not be read from memory"
    assert ours["later"] == {}, "another request must read Placement's allocations"
    assert ours["rewritten"] == {way: ["44444444-0000-0000-0000-000000000000"] for way in ("put", "reshape")}


def test_a_new_server_is_claimed_with_one_request_and_read_without_one(claims):
    assert claims["ClaimingClient"]["new"]["calls"] == ["PUT /allocations", "GET /allocations"], "the second reader must ask Placement"


def test_still_needed(claims):
    """Stock Nova reads before and after; when it does not, the subclass can go."""
    assert claims["SchedulerReportClient"]["new"]["calls"] == [
        "GET /allocations",
        "PUT /allocations",
        "GET /allocations",
        "GET /allocations",
    ]


def test_a_server_that_holds_something_is_claimed_as_upstream_does_it(claims):
    assert claims["ClaimingClient"]["held"]["calls"][:3] == ["PUT /allocations", "GET /allocations", "PUT /allocations"]


def test_a_forced_evacuation_keeps_what_the_server_holds_at_its_old_host(claims):
    """Its caller knows the generation (`claim_resources_on_destination`), so that Placement would see no conflict."""
    assert len(claims["ClaimingClient"]["forced"]["left"][0]) == 2
