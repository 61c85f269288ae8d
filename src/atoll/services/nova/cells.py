"""Nova's table of cells: the addresses of the databases and of the bus of a site's two cells."""

from __future__ import annotations

from atoll.services import database_urls
from atoll.services.contract import Settings


def map_cells(settings: Settings) -> None:
    """Record the addresses of the cells in the API database; they change with the site's directory and with its bus.

    Sites that share the database record templates, which each site's Nova fills in with its own replicas and its own bus.
    """
    from nova import context, exception, objects

    admin = context.get_admin_context()
    cells = (("cell0", objects.CellMapping.CELL0_UUID), ("cell1", "00000000-0000-0000-0000-000000000001"))
    for name, uuid in cells:
        connection, transport_url = cell_addresses(settings, name)
        try:
            row = objects.CellMapping._get_by_uuid_from_db(admin, uuid)
        except exception.CellMappingNotFound:
            mapping = objects.CellMapping(
                context=admin, uuid=uuid, name=name, transport_url=transport_url, database_connection=connection, disabled=False
            )
            mapping.create()
            continue
        if (row["database_connection"], row["transport_url"]) != (connection, transport_url):
            mapping = objects.CellMapping.get_by_uuid(admin, uuid)
            mapping.database_connection, mapping.transport_url = connection, transport_url
            mapping.save()


def cell_addresses(settings: Settings, name: str) -> tuple[str, str]:
    """Return the URLs of a cell's database and bus for Nova's table of cells.

    Args:
        settings: the site's settings.
        name: `cell0` or `cell1`.
    """
    connection = settings.database(f"nova_{name}")
    if settings.sharing:
        connection = database_urls.cell_template(connection)
    bus = database_urls.BUS_TEMPLATE if settings.sharing else settings.transport_url
    return connection, "none:///" if name == "cell0" else bus
