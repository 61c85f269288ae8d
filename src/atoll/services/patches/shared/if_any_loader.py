"""A loader strategy of SQLAlchemy for relations that are empty for most rows.

Upstream's models load collections of each row that is read, one statement for each collection (`lazy='selectin'` or `'subquery'`), and most
of these statements return nothing. This strategy adds a column for each relation to the statement that reads the row: whether the
relation has any row. If it has none, the attribute is set to the empty collection, or to `None` for a relation to one row. Otherwise
SQLAlchemy's own loader loads it. The column is read by the same statement as the row, so an attribute is as recent as its row. The strategy
also skips rows whose attribute the session has loaded already: SQLAlchemy's loader executes its statement for them and ignores the result.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import exists, select
from sqlalchemy.orm import RelationshipProperty
from sqlalchemy.orm.strategies import SelectInLoader

LAZY = "selectin_if_any"
"""The name of the strategy among SQLAlchemy's, for `lazy=` of a relation."""


@RelationshipProperty.strategy_for(lazy=LAZY)
class IfAnyLoader(SelectInLoader):
    """A loader that executes its statement only for rows whose relation is not empty."""

    __slots__ = ("_any",)

    def __init__(self, parent: Any, strategy_key: Any) -> None:
        upstream: Any = super()
        upstream.__init__(parent, strategy_key)
        self._any = has_any(self.parent_property).label(None)

    def setup_query(self, compile_state: Any, query_entity: Any, path: Any, loadopt: Any, adapter: Any, **kwargs: Any) -> None:
        """Add the column to a statement that loads new rows. Subqueries, and statements that refresh a row, stay as they are."""
        collection, options = kwargs.get("column_collection"), compile_state.compile_options
        if collection is not None and options._enable_eagerloads and not options._for_refresh_state:
            compile_state._append_dedupe_col_collection(self._column(adapter), collection)

    def create_row_processor(self, context: Any, *more: Any) -> None:
        """Note each row whose relation is empty, for `_load_for_path`, which runs after all rows have been read.

        Args:
            context: the context of the execution of a statement.
            more: SQLAlchemy's further arguments; the last are the result, the adapter of columns, and the functions that populate a row.
        """
        upstream: Any = super()
        upstream.create_row_processor(context, *more)
        *_, result, adapter, populators = more
        read = None if context.refresh_state else result._getter(self._column(adapter), False)
        if read is None:
            return
        empty = self._empty(context)

        def note(state: Any, _attributes: Any, row: Any) -> None:
            known = read(row)
            if known is not None and not known:
                empty.add(state)

        populators["new"].append((self.key, note))

    def _column(self, adapter: Any) -> Any:
        return adapter.columns[self._any] if adapter else self._any

    def _empty(self, context: Any) -> set[Any]:
        """Return the states, in one execution of a statement, whose relation is known to be empty."""
        found: set[Any] = context.attributes.setdefault((LAZY, self.parent_property), set())
        return found

    def _load_for_path(self, context: Any, path: Any, states: Iterable[tuple[Any, bool]], load_only: Any, *more: Any) -> None:
        if load_only and self.key not in load_only:
            return
        empty, left = self._empty(context), []
        for state, overwrite in states:
            if not overwrite and self.key in state.dict:
                continue
            if state in empty:
                state.get_impl(self.key).set_committed_value(state, state.dict, () if self.uselist else None)
            else:
                left.append((state, overwrite))
        if left:
            upstream: Any = super()
            upstream._load_for_path(context, path, left, load_only, *more)


def has_any(relation: Any) -> Any:
    """Return the SQL expression that is true if a relation of a row has any row.

    If an index begins with the column that refers to the row, the expression looks it up for each row. Otherwise it collects all values of
    the column once for each statement, because a look-up would read the whole table for each row.
    """
    [(local, remote)] = [pair for pair in relation.local_remote_pairs if pair[0].table is relation.parent.local_table]
    indexes = [remote.table.primary_key.columns, *(index.columns for index in remote.table.indexes)]
    if any(next(iter(columns), None) is remote for columns in indexes):
        return exists().where(remote == local).correlate_except(remote.table)
    return local.in_(select(remote).where(remote.is_not(None)).correlate(None))
