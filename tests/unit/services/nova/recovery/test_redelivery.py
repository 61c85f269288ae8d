"""The ids in the casts that the bus delivers again."""

from atoll.bus import payload
from atoll.services.nova.recovery.redelivery import Redelivery

FIRST, SECOND = "11111111-2222-3333-4444-555555555555", "66666666-7777-8888-9999-000000000000"


def test_ids_are_those_of_the_casts_of_a_method():
    casts = (
        payload.encode({"method": "prep_resize", "args": {"uuid": FIRST}}),
        payload.encode({"method": "reboot_instance", "id": SECOND}),
    )
    redelivery = Redelivery(casts)
    assert redelivery.ids() == {FIRST, SECOND}
    assert redelivery.ids(["prep_resize", "finish_resize"]) == {FIRST}
    assert redelivery.ids(["resize"]) == set(), "a part of a name is no name"
    assert Redelivery().ids() == set()
