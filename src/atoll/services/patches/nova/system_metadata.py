"""A server's system metadata, read by the statement that reads the server.

Each read and each save of a server reads its system metadata by a statement of their own. A join would repeat the server, with up to 64 KiB
of user data, for each value. With this patch, they are a column of the statement that reads the server
(`services/patches/shared/gathered_loader.py`). Saves and reads stay upstream's, and the values are as recent as the server's row.
"""

from __future__ import annotations

from typing import Any

from nova.db.main import models
from sqlalchemy.orm import configure_mappers

from atoll.services.patches.shared.gathered_loader import LAZY


def install() -> None:
    """Make `subqueryload` of servers' system metadata, an option of each query of servers, use the strategy; all cells use SQLite."""
    configure_mappers()
    relation: Any = models.Instance.system_metadata.property
    relation._strategies[("lazy", "subquery"),] = relation._get_strategy((("lazy", LAZY),))
