import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from dogpile.cache import make_region
from dogpile.cache.api import NO_VALUE
from oslo_cache.backends import dictionary

from atoll.services.patches.shared import process_cache


@pytest.fixture
def region():
    process_cache.install()
    return make_region().configure(process_cache.NAME, expiration_time=300, arguments={"entries": 100})


def test_values_are_kept_and_forgotten(region):
    region.set_multi({"a": 1, "b": {"c": [2]}})
    assert region.get_multi(["a", "b", "x"]) == [1, {"c": [2]}, NO_VALUE]
    region.delete("a")
    region.delete_multi(["a", "b"])
    assert region.get("b") is NO_VALUE


def test_change_by_one_is_not_seen_by_others(region):
    value = ["member"]
    region.set("roles", value)
    value.append("admin")
    region.get("roles").append("admin")
    assert region.get("roles") == ["member"]


def test_old_values_are_not_taken(region):
    region.set("key", 1)
    assert region.get("key", expiration_time=-1) is NO_VALUE


def test_number_of_entries_is_bounded(region):
    for number in range(1000):
        region.set(str(number), number)
        region.get("0")
    assert region.get("0") == 0, "an entry that is in use must be kept"
    assert region.get("1") is NO_VALUE
    assert region.get("999") == 999


def test_many_threads(region):
    def work(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(2000):
            key = str(chance.randrange(200))
            chance.choice([region.delete, region.get, lambda key: region.set(key, key)])(key)
            assert region.get(key) in {key, NO_VALUE}

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_upstream_shares_its_values_and_has_no_bound():
    """If this fails, patches/shared/process_cache.py can go."""
    stock = dictionary.DictCacheBackend({})
    stock.set("roles", ["member"])
    stock.get("roles").append("admin")
    assert stock.get("roles") == ["member", "admin"]
    for number in range(20_000):
        stock.cache[str(number)] = (number, 0)
    stock.set("one", 1)
    assert len(stock.cache) > 20_000
