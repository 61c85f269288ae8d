"""Values of columns that two engines declare differently: how they are written at the target, and when two of them are equal.

Each engine reads the same column as another type of Python: SQLite and PostgreSQL have booleans where MariaDB has `TINYINT(1)`,
PostgreSQL has `JSON` and `INET` where the others have text, MariaDB keeps whole seconds in `DATETIME` and six digits in `FLOAT`. The two
declared types together decide the kind of a column. Pure functions.
"""

from __future__ import annotations

import ipaddress
import json
import math
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import types
from sqlalchemy.dialects import mysql, postgresql


class Kind(StrEnum):
    """The kinds of columns."""

    BOOLEAN = "boolean"
    SECONDS = "seconds"
    """A time in whole seconds, in one engine at least."""
    TIME = "time"
    """A time with microseconds in both engines."""
    JSON = "json"
    BYTES = "bytes"
    SINGLE = "single"
    """A number in single precision, which MariaDB reads with six digits."""
    FLOAT = "float"
    DECIMAL = "decimal"
    INTEGER = "integer"
    ADDRESS = "address"
    PADDED = "padded"
    """Text that an engine fills up with blanks at its end."""
    OTHER = "other"


@dataclass(frozen=True)
class Column:
    """A column of a table that both engines have.

    Attributes:
        name: the column's name.
        kind: the column's kind.
        read_as_object: True if the source returns an object for JSON; otherwise it returns the JSON text.
        written_as_object: True if the target takes and returns an object for JSON; otherwise the JSON text.
    """

    name: str
    kind: Kind
    read_as_object: bool = False
    written_as_object: bool = False

    def stored(self, value: Any) -> Any:
        """Return the value for the target of a value that the source returned.

        Raises:
            ValueError, TypeError: the value has no equivalent.
        """
        if value is None:
            return None
        if self.kind is Kind.JSON:
            found = value if self.read_as_object else json.loads(value)
            return found if self.written_as_object else json.dumps(found)
        convert = _STORED.get(self.kind)
        return convert(value) if convert else value

    def canonical(self, value: Any, *, of_target: bool = False) -> Any:
        """Return a form of a value that is equal for equal values of both engines, and whose `repr` is equal then.

        Args:
            value: the value that an engine returned.
            of_target: True if this engine is the target.

        Raises:
            ValueError, TypeError: the value is not of the column's kind.
        """
        if value is None:
            return None
        if self.kind is Kind.JSON:
            is_object = self.written_as_object if of_target else self.read_as_object
            return json.dumps(value if is_object else json.loads(value), sort_keys=True)
        convert = _CANONICAL.get(self.kind)
        return convert(value) if convert else value


def column_of(name: str, source: types.TypeEngine[Any], target: types.TypeEngine[Any]) -> Column:
    """Return the column that the source and the target declare with these types."""
    return Column(name, _kind(source, target), isinstance(source, types.JSON), isinstance(target, types.JSON))


_KINDS: tuple[tuple[tuple[type[Any], ...], Kind], ...] = (
    ((types.JSON,), Kind.JSON),
    ((types.Boolean,), Kind.BOOLEAN),
    ((types.DateTime,), Kind.TIME),
    ((types.LargeBinary, types._Binary), Kind.BYTES),
    ((mysql.FLOAT,), Kind.SINGLE),
    ((types.Float,), Kind.FLOAT),
    ((types.Numeric,), Kind.DECIMAL),
    ((types.Integer,), Kind.INTEGER),
    ((postgresql.INET, postgresql.CIDR), Kind.ADDRESS),
    ((types.CHAR,), Kind.PADDED),
)
"""The kind of a column, by the types that either engine declares; the first entry that matches applies."""


def _kind(*pair: types.TypeEngine[Any]) -> Kind:
    kind = next((kind for classes, kind in _KINDS if any(isinstance(each, classes) for each in pair)), Kind.OTHER)
    return Kind.SECONDS if kind is Kind.TIME and any(map(_is_whole, pair)) else kind


def _is_whole(declared: types.TypeEngine[Any]) -> bool:
    """Return whether a type keeps whole seconds alone: MariaDB's, unless it has a precision."""
    return isinstance(declared, mysql.DATETIME | mysql.TIMESTAMP) and not declared.fsp


def _time(value: datetime) -> datetime:
    return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value


def _seconds(value: datetime) -> datetime:
    return _time(value).replace(microsecond=0)


def _single(value: Any) -> str:
    """Return the six digits that MariaDB reads of a number that it has rounded to single precision."""
    number = float(value)
    with suppress(OverflowError):
        number = struct.unpack("f", struct.pack("f", number))[0]
    return f"{number:.6g}"


def _decimal(value: Any) -> str:
    return format(Decimal(str(value)).normalize(), "f")


def _float(value: Any) -> float:
    number = float(value)
    return 0.0 if math.isclose(number, 0.0, abs_tol=0.0) else number  # not -0.0


def _address(value: Any) -> str:
    with suppress(ValueError):
        return str(ipaddress.ip_interface(str(value)))
    return str(value)


_STORED: dict[Kind, Callable[[Any], Any]] = {
    Kind.BOOLEAN: bool,
    Kind.SECONDS: _seconds,
    Kind.TIME: _time,
    Kind.BYTES: bytes,
    Kind.SINGLE: float,
    Kind.FLOAT: float,
    Kind.INTEGER: int,
}

_CANONICAL: dict[Kind, Callable[[Any], Any]] = {
    **_STORED,
    Kind.SINGLE: _single,
    Kind.FLOAT: _float,
    Kind.DECIMAL: _decimal,
    Kind.ADDRESS: _address,
    Kind.PADDED: lambda value: str(value).rstrip(" "),
}
