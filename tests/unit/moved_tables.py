"""Tables whose rows tests move from one database to another: columns of all types, and a reference within a table."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, DateTime, Enum, Float, ForeignKey, Integer, LargeBinary, MetaData, String, Table, Text
from sqlalchemy.dialects.mysql import LONGTEXT


class MovedTables:
    """The tables of one database; `unique_names` if no two things may have one name."""

    def __init__(self, *, unique_names: bool) -> None:
        self.model = MetaData()
        self.version = Table("alembic_version", self.model, Column("version_num", String(32), primary_key=True))
        self.parents = Table("parents", self.model, Column("id", Integer, primary_key=True), Column("above", ForeignKey("parents.id")))
        self.things = Table(
            "things",
            self.model,
            Column("id", Integer, primary_key=True),
            Column("parent", ForeignKey("parents.id")),
            Column("yes", Boolean),
            Column("at", DateTime),
            Column("data", JSON(none_as_null=True)),
            Column("text", Text().with_variant(LONGTEXT, "mysql", "mariadb")),
            Column("name", String(255), unique=unique_names),
            Column("kind", Enum("a", "b", name="kinds")),
            Column("blob", LargeBinary),
            Column("ratio", Float),
        )
