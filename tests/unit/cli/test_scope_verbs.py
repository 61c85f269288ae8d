import json

import pytest

from atoll.gateway.scope import explain
from atoll.site import gateway_client

MEMBERS = ["paris", "lyon", "nice"]


@pytest.fixture
def gateway(monkeypatch):
    """Simulate a gateway at paris that can't reach nice; return the requests to it."""
    asked = []

    def ask(_state, site, verb, **fields):
        asked.append((site, verb, fields))
        if verb == "scope":
            return explain(fields["text"], "paris", MEMBERS, ["lyon"], lambda a, b: 12.0)
        return {"pending": pending}

    pending: list[dict[str, object]] = []
    monkeypatch.setattr(gateway_client, "ask", ask)
    return asked, pending


def test_explain_says_what_goes_where(atoll, gateway):
    ran = atoll("scope", "explain", "{compute: paris & nice, network: a % b}".replace("a % b", "paris % nice"))
    assert ran.code == 0
    assert "compute    created at paris and nice; listed from paris, nice; updated and deleted at all of them" in ran.out
    assert "network    refused: `paris % nice`: networks do not span sites yet" in ran.out
    assert "nice can't be reached from paris at present" in ran.out
    assert "identity   handled as without a scope, by paris" in ran.out


def test_explain_as_json_of_another_site(atoll, gateway):
    ran = atoll("scope", "explain", "--json", "--site", "lyon", "{around: paris, 20ms}")
    assert json.loads(ran.out)["services"]["compute"]["sites"] == MEMBERS
    assert gateway[0] == [("lyon", "scope", {"text": "{around: paris, 20ms}"})]


@pytest.mark.parametrize(
    ("scope", "err"),
    [
        (
            "{compute: paris &}",
            "error: scope, column 18: expected a site or `(`, found `}`\n  {compute: paris &}\n                   ^\n",
        ),
        (
            "{compute: rome}",
            "error: scope, column 11: there is no site `rome`: expected one of lyon, nice, paris\n  {compute: rome}\n            ^\n",
        ),
    ],
)
def test_explain_points_at_a_mistake(atoll, gateway, scope, err):
    ran = atoll("scope", "explain", scope)
    assert (ran.code, ran.out, ran.err) == (1, "", err)


def test_a_scope_that_makes_no_sense_needs_no_cloud(atoll):
    assert "column 6: expected `:`, found the end" in atoll("scope", "explain", "paris").err


def test_pending(atoll, gateway):
    assert atoll("pending").out == "no operation waits for another site\n"
    operation = {
        "site": "lyon",
        "what": "DELETE image/v2/images/1",
        "since": "2027-01-15T08:00:00+00:00",
        "attempts": 2,
        "error": "HTTP 409",
    }
    gateway[1].append(operation)
    ran = atoll("pending", "--site", "paris")
    assert ran.out.split()[:5] == ["SITE", "OPERATION", "SINCE", "REFUSALS", "REASON"]
    assert "lyon  DELETE image/v2/images/1  2027-01-15T08:00:00+00:00         2  HTTP 409" in ran.out
    assert json.loads(atoll("pending", "--json").out) == {"pending": [operation]}
