"""When the gateway renews the tokens of its own accounts, with clocks that are wrong."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from multidict import CIMultiDict

from atoll.gateway.account_token import MARGIN_S, AccountToken
from atoll.gateway.request.call import Reply

LIFE_S = 6 * 3600.0


class Keystone:
    """A Keystone that issues tokens by the agreed time, which differs from the clock of its machine."""

    def __init__(self, ahead_s: float) -> None:
        self._ahead = timedelta(seconds=ahead_s)
        self.issued = 0

    async def send(self, _site, _call):
        self.issued += 1
        now = datetime.now(UTC) + self._ahead
        token = {"issued_at": now.isoformat(), "expires_at": (now + timedelta(seconds=LIFE_S)).isoformat()}
        headers = CIMultiDict({"X-Subject-Token": f"token-{self.issued}"})
        return Reply(201, headers, json.dumps({"token": token}).encode(), "paris")


@pytest.mark.parametrize("ahead_s", [0, 3600, -3600, 86_400, -86_400])
def test_token_is_renewed_before_it_ends_and_not_long_before_whatever_the_clock(ahead_s):
    async def main() -> None:
        keystone, now_s = Keystone(ahead_s), [1000.0]
        account = AccountToken(keystone, SimpleNamespace(site="paris", password="p"), "image", lambda: now_s[0])
        assert await account.get() == "token-1"
        now_s[0] += LIFE_S - MARGIN_S - 1
        assert await account.get() == "token-1"
        now_s[0] += 2
        assert await account.get() == "token-2"

    asyncio.run(main())
