import importlib
import sys

import pytest
from upstream import inside

from atoll.services import base


@pytest.fixture
def no_eventlet(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "eventlet"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [base.NoEventlet(), *sys.meta_path])


@pytest.mark.parametrize("name", ["eventlet", "eventlet.green.socket"])
def test_eventlet_is_refused(no_eventlet, name):
    with pytest.raises(ImportError, match="native threads") as caught:
        importlib.import_module(name)
    assert caught.value.name is not None


def test_others_are_none_of_its_business():
    assert base.NoEventlet().find_spec("eventlette") is None
    assert base.NoEventlet().find_spec("json.decoder") is None


def test_eventlet_may_be_allowed_again(no_eventlet):
    base.allow_eventlet()
    assert not any(isinstance(finder, base.NoEventlet) for finder in sys.meta_path)


def test_warm_imports_packages_whole():
    import email
    import json

    for name in ("json.tool", "email.generator"):
        sys.modules.pop(name, None)
    base.warm(["json.*", "email.message"])
    assert "json.tool" in sys.modules
    assert (json, email) == (sys.modules["json"], sys.modules["email"])


def test_preload_leaves_what_a_fork_needs():
    """A fork needs one thread, no eventlet, native threads, and stevedore's cache (an internal one) filled."""
    found = inside(
        """
        sys.argv[1:] = ["--config-file", "x"]
        from atoll.services import base
        base.preload()
        import threading, oslo_service.backend, stevedore._cache
        tell({
            "argv": sys.argv[1:],
            "threads": threading.active_count(),
            "eventlet": "eventlet" in sys.modules,
            "backend": oslo_service.backend.get_backend_type().name,
            "cached": bool(stevedore._cache._c._internal),
            "driver": [point.name for point in stevedore._cache.get_group_all("oslo.messaging.drivers") if point.name == "zenoh"],
        })
        """
    )
    assert found == {"argv": [], "threads": 1, "eventlet": False, "backend": "THREADING", "cached": True, "driver": ["zenoh"]}


def test_cache_is_found_without_loading_all_the_others():
    """dogpile would load each installed back end, and log an error for each that lacks a library."""
    found = inside(
        """
        import logging
        from atoll.services import base
        base.preload()
        records = []
        handler = logging.Handler()
        handler.emit = lambda record: records.append(record.getMessage())
        logging.getLogger().addHandler(handler)
        from dogpile.cache import make_region
        region = make_region().configure("oslo_cache.dict", arguments={"expiration_time": 300})
        region.set("key", "value")
        tell([region.get("key"), records])
        """
    )
    assert found == ["value", []]
