"""Moves and deletions of allocations while Placement is killed, with upstream's real client over a double of its connection."""

import pytest
from upstream import inside

WRITES = """
    from nova import monkey_patch
    monkey_patch.patch(backend="threading")
    from keystoneauth1 import exceptions
    from nova import config, context
    from nova.scheduler.client import report
    from atoll.services.patches.nova import placement_writes

    config.parse_args(["nova"], default_config_files=[], init_rpc=False)

    class Answer:
        def __init__(self, code, body=None):
            self.status_code, self.body, self.text = code, body, ""
        def json(self):
            return self.body
        def __bool__(self):
            return self.status_code < 400

    class Placement:
        # It is killed before or after its first commit, and restarts after `away` further requests.
        def __init__(self, dies, away):
            self.dies, self.away, self.dead = dies, away, 0
            self.held = {"server": {"provider": {"resources": {"VCPU": 1}}}, "migration": {}}
        def refuse(self):
            if self.dead:
                self.dead -= 1
                raise exceptions.ConnectFailure("refused")
        def get(self, url):
            self.refuse()
            consumer = url.rpartition("/")[2]
            return Answer(200, {"allocations": self.held[consumer], "project_id": "p", "user_id": "u", "consumer_generation": 1})
        def put(self, url, data):
            return self.post(url, {url.rpartition("/")[2]: data})
        def delete(self, url):
            return self.post(url, {url.rpartition("/")[2]: {"allocations": {}}})
        def post(self, url, data):
            self.refuse()
            if self.dies == "before":
                self.dies, self.dead = "", self.away
                raise exceptions.ConnectFailure("aborted")
            self.held |= {consumer: each["allocations"] for consumer, each in data.items()}
            if self.dies == "after":
                self.dies, self.dead = "", self.away
                raise exceptions.ConnectFailure("aborted")
            return Answer(204)

    def move(client, context):
        return client.move_allocations(context, "server", "migration")

    def delete(client, context):
        return client.delete_allocation_for_instance(context, "server", consumer_type="migration")

    def force(client, context):
        return client.delete_allocation_for_instance(context, "server", force=True)

    def tried(write, dies, away=2):
        placement = Placement(dies, away)
        client = report.SchedulerReportClient.__new__(report.SchedulerReportClient)
        client.get = lambda url, *_rest, **_more: placement.get(url)
        client.post = lambda url, data, *_rest, **_more: placement.post(url, data)
        client.put = lambda url, data, *_rest, **_more: placement.put(url, data)
        client.delete = lambda url, *_rest, **_more: placement.delete(url)
        try:
            result = write(client, context.RequestContext(user_id="u", project_id="p"))
        except Exception as error:
            result = type(error).__name__
        return [result, bool(placement.held["server"]), bool(placement.held["migration"])]

    placement_writes.RETRY_S = 0.01
    def all_cases():
        return {write.__name__: [tried(write, dies) for dies in ("", "before", "after")] for write in (move, delete, force)}

    found = {"upstream": all_cases()}
    placement_writes.install()
    found["ours"] = all_cases()
    placement_writes.RESTART_S = 0.05
    found["away"] = [tried(write, "before", away=10**6) for write in (move, delete, force)]
    tell(found)
"""


@pytest.fixture(scope="module")
def found():
    return inside(WRITES)


def test_a_write_is_finished_when_placement_is_there_again(found):
    assert found["ours"]["move"] == [[True, False, True]] * 3
    assert [held for _done, *held in found["ours"]["delete"] + found["ours"]["force"]] == [[False, False]] * 6
    assert [done for done, *_held in found["ours"]["delete"]] == [True, True, False], "the last try finds nothing to delete"


def test_upstream_gives_up(found):
    """If this fails, upstream tries again itself, and services/patches/nova/placement_writes.py can go."""
    for write in ("move", "delete", "force"):
        assert [done for done, *_held in found["upstream"][write]] == [True, None, None]
    assert found["upstream"]["move"][2] == [None, False, True], "nobody undoes it"
    assert found["upstream"]["delete"][1] == [None, True, False], "nobody deletes them"


def test_a_placement_that_stays_away_is_given_up(found):
    assert found["away"] == [[None, True, False]] * 3
