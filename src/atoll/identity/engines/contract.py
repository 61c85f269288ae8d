"""The interface of the engines that Keystone's database can have, for the replication of identity.

All engines get the same statements: names in double quotes, `?` for a parameter. They return values as SQLite stores them, because the
replicated document has these: 0 and 1 for booleans, and times as text with six digits after the second. The modules of this package have
the differences: how triggers fill the outbox, how a transaction is marked as one that applies other sites' changes, and how locks work.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from atoll.identity.tables import Key, Value

Content = dict[str, Any]
"""The fields of a record; see `atoll.identity.rows`."""

Row = tuple[Any, ...]


class DatabaseError(Exception):
    """Keystone's database can't be used; the open transaction was rolled back."""


class RowRefused(DatabaseError):
    """The database refuses a row: a constraint is violated, or a value does not fit its column."""


class Collided(DatabaseError):
    """Another transaction has written the same rows meanwhile; the transaction was rolled back, and may run again."""


class Selection(NamedTuple):
    """The parts of a SELECT that restrict it to some keys.

    Attributes:
        source: the beginning of the FROM clause, before the tables' names.
        condition: a condition for the WHERE clause.
        parameters: the parameters of both.
    """

    source: str
    condition: str
    parameters: Sequence[Any]


class Session(ABC):
    """A transaction that is open, and in which statements run."""

    @abstractmethod
    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Iterable[Row]:
        """Run a statement and return its rows."""

    @abstractmethod
    def several(self, table: str, columns: Sequence[tuple[str, str]], keys: Sequence[Sequence[Value]]) -> Iterator[Selection]:
        """Yield selections that together match the rows with the given keys; `None` matches NULL.

        Args:
            table: the table.
            columns: the name of each key column, and the expression by which the statement refers to it.
            keys: for each row, the values of these columns.
        """

    @abstractmethod
    def begin_applying(self) -> None:
        """Keep this transaction's changes out of the outbox, until `end_applying`."""

    @abstractmethod
    def end_applying(self) -> None:
        """Record this transaction's further changes in the outbox again. The end of the transaction has the same effect."""

    @abstractmethod
    def stored(self, table: str, column: str, value: Value) -> Any:
        """Return the statement's parameter for a value of a column.

        Raises:
            RowRefused: the column can't hold the value.
        """

    @abstractmethod
    def canonical(self, key: Sequence[Value]) -> Key:
        """Return a key in the form in which the tables return it."""

    @abstractmethod
    def reconciled(self, here: Content, agreed: Content) -> Content:
        """Return the content of rows; where a field equals that of `agreed` and only its form differs, use the form of `agreed`."""


class IdentityDatabase(ABC):
    """Keystone's database at one site. Only one thread may use it; any thread may call `is_reachable`.

    Attributes:
        excludes_writers: True if no other transaction can write while a transaction of `writing` is open.
    """

    excludes_writers = True

    @abstractmethod
    def install(self) -> bool:
        """Open the database, and install the tables and triggers of the outbox. Call this first, and again if it fails.

        Returns:
            True if the database had no outbox.

        Raises:
            DatabaseError: the database can't be used, or is not Keystone's.
        """

    @abstractmethod
    def reading(self) -> AbstractContextManager[Session]:
        """Open a transaction that reads one state of the database.

        Raises:
            DatabaseError: the database can't be used.
        """

    @abstractmethod
    def writing(self) -> AbstractContextManager[Session]:
        """Open a transaction that writes; it is committed at the end of the block, or rolled back if the block raises.

        Raises:
            DatabaseError: the database can't be used; `RowRefused` and `Collided` are such errors.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the database, if it is open."""

    @abstractmethod
    def is_reachable(self) -> bool:
        """Return whether the database's server answers; this may take seconds. Any thread may call it."""

    @abstractmethod
    def adapt(self) -> None:
        """Change a new schema of Keystone so that it can store every record that SQLite can store.

        Raises:
            DatabaseError: the database can't be used.
        """
