"""Moves of allocations while Placement is killed, with upstream's real client over a double of its connection."""

import pytest
from upstream import inside

MOVES = """
    from nova import monkey_patch
    monkey_patch.patch(backend="threading")
    from keystoneauth1 import exceptions
    from nova import config, context
    from nova.scheduler.client import report
    from atoll.services.patches.nova import placement_moves

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

    def tried(dies, away=2):
        placement = Placement(dies, away)
        client = report.SchedulerReportClient.__new__(report.SchedulerReportClient)
        client.get = lambda url, *_rest, **_more: placement.get(url)
        client.post = lambda url, data, *_rest, **_more: placement.post(url, data)
        try:
            result = client.move_allocations(context.RequestContext(user_id="u", project_id="p"), "server", "migration")
        except Exception as error:
            result = type(error).__name__
        return [result, bool(placement.held["server"]), bool(placement.held["migration"])]

    placement_moves.RETRY_S = 0.01
    cases = ("", "before", "after")
    found = {"upstream": [tried(case) for case in cases]}
    placement_moves.install()
    found["ours"] = [tried(case) for case in cases]
    placement_moves.RESTART_S = 0.05
    found["away"] = tried("before", away=10**6)
    tell(found)
"""


@pytest.fixture(scope="module")
def found():
    return inside(MOVES)


def test_a_move_is_finished_when_placement_is_there_again(found):
    assert found["ours"] == [[True, False, True]] * 3


def test_upstream_gives_up(found):
    """If this fails, upstream tries again itself, and services/patches/nova/placement_moves.py can go."""
    assert [moved for moved, *_held in found["upstream"]] == [True, None, None]
    assert found["upstream"][2] == [None, False, True], "nobody undoes it"


def test_a_placement_that_stays_away_is_given_up(found):
    assert found["away"][1:] == [True, False]
    assert found["away"][0] is None
