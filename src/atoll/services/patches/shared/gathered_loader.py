"""A loader strategy of SQLAlchemy that reads a row and a collection of it by one statement, without repeating the row.

A join would repeat the row for each row of the collection. So upstream reads the collection by a second statement (`subqueryload`). With
this strategy, the statement that reads the row has one more column: the rows of the collection as one value, a JSON array that SQLite makes
of them. The strategy makes of each element the object that SQLAlchemy would have made of the row. An object that the session holds already
is taken as it is, as by any loader. Refreshed rows, and rows of statements without the column, are loaded by SQLAlchemy's own loader.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import RelationshipProperty, make_transient_to_detached
from sqlalchemy.orm.strategies import SelectInLoader

from atoll.services.patches.shared.if_any_loader import IfAnyLoader

LAZY = "gathered"
"""The name of the strategy among SQLAlchemy's, for `lazy=` of a relation."""


@RelationshipProperty.strategy_for(lazy=LAZY)
class GatheredLoader(IfAnyLoader):
    """A loader that takes the collection of a row from a column of the statement that reads the row."""

    __slots__ = ()

    def __init__(self, parent: Any, strategy_key: Any) -> None:
        super().__init__(parent, strategy_key)
        self._any = gathered(self.parent_property).label(None)

    def create_row_processor(self, context: Any, *more: Any) -> None:
        """Note the collection of each row, for `_load_for_path`, which runs after all rows have been read.

        Args:
            context: the context of the execution of a statement.
            more: SQLAlchemy's further arguments; the last are the result, the adapter of columns, and the functions that populate a row.
        """
        upstream: Any = SelectInLoader
        upstream.create_row_processor(self, context, *more)
        *_, result, adapter, populators = more
        read = None if context.refresh_state else result._getter(self._column(adapter), False)
        if read is None:
            return
        collections = self._collections(context)

        def note(state: Any, _attributes: Any, row: Any) -> None:
            collections[state] = read(row)

        populators["new"].append((self.key, note))

    def _collections(self, context: Any) -> dict[Any, Any]:
        """Return the collections that one execution of a statement has read, by the state of their row."""
        found: dict[Any, Any] = context.attributes.setdefault((LAZY, self.parent_property), {})
        return found

    def _load_for_path(self, context: Any, path: Any, states: Iterable[tuple[Any, bool]], load_only: Any, *more: Any) -> None:
        if load_only and self.key not in load_only:
            return
        collections, left = self._collections(context), []
        for state, overwrite in states:
            if not overwrite and self.key in state.dict:
                continue
            text = collections.get(state)
            if text is None:
                left.append((state, overwrite))
            else:
                state.get_impl(self.key).set_committed_value(state, state.dict, self._objects(context.session, json.loads(text)))
        if left:
            upstream: Any = SelectInLoader
            upstream._load_for_path(self, context, path, left, load_only, *more)

    def _objects(self, session: Any, rows: list[list[Any]]) -> list[Any]:
        """Return the objects of rows; those that the session does not hold become persistent in it."""
        readers = _readers(self.mapper, session.get_bind(self.mapper).dialect)
        keys = [self.mapper.get_property_by_column(column).key for column in self.mapper.primary_key]
        found = []
        for row in rows:
            values = {key: read(value) for (key, read), value in zip(readers, row, strict=True)}
            identity = self.mapper.identity_key_from_primary_key([values[key] for key in keys])
            held = session.identity_map.get(identity)
            if held is None:
                held = self.mapper.class_(**values)
                make_transient_to_detached(held)
                session.add(held)
            found.append(held)
        return found


def _readers(mapper: Any, dialect: Any) -> list[tuple[str, Callable[[Any], Any]]]:
    """Return the attribute of each column of a table, and a function that converts the column's value as SQLAlchemy does."""
    found = []
    for column in mapper.local_table.columns:
        convert = column.type.dialect_impl(dialect).result_processor(dialect, None)
        found.append((mapper.get_property_by_column(column).key, convert or (lambda value: value)))
    return found


def gathered(relation: Any) -> Any:
    """Return the SQL expression for the rows of a relation as a JSON array of arrays, in the order of the table's columns."""
    table = relation.mapper.local_table
    rows = func.json_group_array(func.json_array(*table.columns))
    return select(rows).where(relation.primaryjoin).correlate_except(table).scalar_subquery()
