"""Real services pass the same contract as the doubles of the gateway's unit tests; see `service_contract`."""

import asyncio
from typing import Any

import pytest
from deployment import Deployment
from service_contract import CONTRACT, Answered, Ask


@pytest.mark.parametrize("promise", CONTRACT, ids=lambda each: each.__name__)
def test_real_services_keep_the_contract(cloud: Deployment, promise: Any) -> None:
    api = cloud.api_inside("brest")

    async def ask(service: str, method: str, path: str, body: Any) -> Answered:
        answer = await asyncio.to_thread(api.call, service, method, path, body)
        return Answered(answer.status, answer.body or {}, answer.headers)

    checked: Ask = ask
    asyncio.run(promise(checked))
