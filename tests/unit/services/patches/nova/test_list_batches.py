"""Database queries of a list of servers, with upstream's real lister."""

import pytest
from upstream import inside

LIST = """
    from nova import monkey_patch
    monkey_patch.patch(backend="threading")
    from types import SimpleNamespace
    from unittest import mock
    from nova import config, context, objects
    from nova.conf import CONF
    objects.register_all()
    CONF([], project="nova", default_config_files=[])
    from nova.compute import instance_list
    from atoll.services.patches.nova import list_batches

    if sys.argv[1] == "lean":
        list_batches.install()
    counts = dict(zip("ab", map(int, sys.argv[2:])))
    servers = {cell: [{"uuid": f"{cell}{n}", "created_at": n, "id": n} for n in range(count)] for cell, count in counts.items()}
    asked = []

    def query(ctx, filters, limit, marker, **_more):
        asked.append([ctx.cell_uuid, limit, marker])
        rows = servers[ctx.cell_uuid]
        begin = 1 + [row["uuid"] for row in rows].index(marker) if marker else 0
        return rows[begin : begin + limit] if limit else rows[begin:]

    def gather(_ctx, _timeout, call, *arguments, **_more):
        return {cell: call(SimpleNamespace(cell_uuid=cell), *arguments) for cell in "ab"}

    with mock.patch.object(instance_list.db, "instance_get_all_by_filters_sort", query), mock.patch.object(
        context, "scatter_gather_all_cells", gather
    ):
        _lister, found = instance_list.get_instances_sorted(None, {}, 10, None, [], ["created_at"], ["asc"], batch_size=4)
        found = [row["uuid"] for row in found]
    tell({"found": sorted(found), "asked": len(asked)})
"""


@pytest.mark.parametrize(
    ("first", "second", "asked", "upstream_asks"),
    [
        (0, 0, 2, 2),
        (3, 0, 2, 3),  # the first batch is not full
        (4, 0, 3, 3),  # the batch is full, so there may be more servers
        (6, 1, 3, 5),
    ],
)
def test_nobody_asks_again_after_a_batch_that_was_not_full(first, second, asked, upstream_asks):
    lean, plain = (inside(LIST, kind, str(first), str(second)) for kind in ("lean", "plain"))
    assert lean["found"] == plain["found"] == sorted([f"a{n}" for n in range(first)] + [f"b{n}" for n in range(second)])
    assert (lean["asked"], plain["asked"]) == (asked, upstream_asks)
