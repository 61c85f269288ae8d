"""As in tests/unit/bus: oslo.messaging is imported with native threads and without eventlet."""

import sys
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    sys.modules.setdefault("eventlet", None)  # type: ignore[arg-type]
    import oslo_service.backend

    oslo_service.backend.init_backend(oslo_service.backend.BackendType.THREADING)
    import oslo_messaging  # noqa: F401

    if sys.modules["eventlet"] is None:
        del sys.modules["eventlet"]
