"""The databases that an experiment compares: every cloud runs once with each of them, in which its full sites keep their services' data.

The experiment's file describes a database like the field `database` of a site (`atoll.cloud.databases`). With `{of: SITE}`, all full sites
share the databases of one of them, which starts a Redis.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from atoll.cloud import Cloud
from atoll.cloud.databases import SHAREABLE, SQLITE, Database, read_database
from atoll.db.address import address
from atoll.experiment.architectures import STANDARD, CloudOfCells
from atoll.experiment.workloads import listed

DATABASES = "`sqlite`, the URL of a server, or a mapping such as {start: mariadb}, or a list of them"
_STANDARD_ENGINE = "mariadb"


def name_of(database: Database) -> str:
    """Return the name of a database in results, without user and password."""
    if database.of:
        return f"{database.engine} of {database.of}"
    return f"{database.engine} at {address(database.url)}" if database.url else database.engine


def _distinct(databases: tuple[Database, ...]) -> tuple[Database, ...]:
    names = [name_of(each) for each in databases]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise PydanticCustomError("swept_twice", "{text}", {"text": f"{name} is in the list twice: expected each value once"})
    return databases


Databases = Annotated[
    tuple[Annotated[Database, BeforeValidator(read_database)], ...],
    BeforeValidator(listed),
    AfterValidator(_distinct),
    Field(strict=False, description=DATABASES),
]


def with_database(document: Mapping[str, Any], database: Database) -> dict[str, Any]:
    """Return a cloud's document in which every full site has the given database; the owner of a shared one starts its server."""
    value = database.model_dump(mode="json", exclude_defaults=True) or SQLITE
    values = {database.of: {"start": SHAREABLE}} if database.of else {}
    sites = [site if site.get("kind") == "compute" else {**site, "database": values.get(site["name"], value)} for site in document["sites"]]
    return {**document, "sites": sites}


def engines_of(document: Mapping[str, Any]) -> str:
    """Return the databases of the full sites of a cloud's document, separated by commas."""
    found = {
        site["name"]: Database.model_validate(read_database(site.get("database", SQLITE)))
        for site in document["sites"]
        if site.get("kind") != "compute"
    }
    shared = {each.of: each for each in found.values() if each.of}  # by the owner, whose own database is the same one
    return ", ".join(dict.fromkeys(name_of(shared.get(name, each)) for name, each in found.items()))


Complaint = tuple[tuple[str | int, ...], str]
"""The path of a wrong value in the document, and the reason."""


def complaints(databases: Sequence[Database], clouds: Sequence[CloudOfCells]) -> Iterator[Complaint]:
    """Yield the combinations of databases and clouds that can't run, or whose results could not be compared.

    Args:
        databases: the databases that the experiment's file names.
        clouds: all clouds of the experiment.
    """
    for cloud in clouds:
        own = engines_of(cloud.document)
        standard = cloud.factors["architecture"] == STANDARD
        if own != SQLITE and not standard:
            yield ("databases",), f"{cloud.name} names databases itself ({own}): expected none in its file, or no `databases` here"
        for index, database in enumerate(databases):
            if standard and database.engine != _STANDARD_ENGINE:
                text = f"{cloud.name} always uses MariaDB, not {name_of(database)}: expected {{start: mariadb}}, or another cloud"
                yield ("databases", index), text
            elif text := _obstacle(cloud, database):
                yield ("databases", index), f"{cloud.name} can't use the database {name_of(database)}: {text}"
    if len(databases) > 1:
        yield from _unequal(clouds)


def _obstacle(cloud: CloudOfCells, database: Database) -> str:
    """Return the reason why a cloud can't use a database; empty if it can.

    The check adds a topology to the cloud, because every cell's cloud has one.
    """
    if database.of and cloud.broker:
        return "regions do not cooperate: expected a database of each region's own"
    if database.of and len([site for site in cloud.document["sites"] if site.get("kind") != "compute"]) < 2:
        return "only one site is full: expected `{start: redis}`, or a cloud with several full sites"
    document = {"topology": {"preset": "mesh"}, **with_database(cloud.document, database)}
    try:
        Cloud.model_validate(document)
    except ValidationError as error:
        return str(error.errors(include_url=False)[0]["msg"])
    return ""


def _unequal(clouds: Sequence[CloudOfCells]) -> Iterator[Complaint]:
    """Yield a complaint if sites of the clouds have different `durability`, and so flush commits at different moments."""
    found: dict[str, str] = {}
    for cloud in clouds:
        for site in cloud.document["sites"]:
            if site.get("kind") != "compute":
                found.setdefault(site.get("durability", "full"), f"{site['name']} of {cloud.name}")
    if len(found) > 1:
        told = ", ".join(f"`{durability}` at {place}" for durability, place in found.items())
        yield ("databases",), f"compared databases must flush commits alike: expected the same `durability` at all sites, got {told}"
