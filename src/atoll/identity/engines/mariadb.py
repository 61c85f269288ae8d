"""MariaDB: triggers fill the outbox unless a variable of the session says that other sites' changes are being applied.

MariaDB's own cascades start no triggers, so triggers carry them out first. The session does not check foreign keys, as SQLite does not: the
references of the document decide which records exist (`atoll.identity.references`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, NamedTuple

import pymysql

from atoll.identity import outbox
from atoll.identity.bounds import LONG, MAX_LONG
from atoll.identity.engines.contract import Collided, DatabaseError, Row, RowRefused, Session
from atoll.identity.engines.servers import ANSWER_S, CONNECT_S, ServerDatabase, ServerSession

_OPTIONS = "ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"

_OUTBOX = "number BIGINT AUTO_INCREMENT PRIMARY KEY, kind VARCHAR(64) NOT NULL, `key` TEXT NOT NULL"
_APPLIED = "kind VARCHAR(64) NOT NULL, `key` TEXT NOT NULL, content LONGTEXT NOT NULL, INDEX (kind, `key`(500))"

TABLES = (
    f"CREATE TABLE IF NOT EXISTS atoll_outbox ({_OUTBOX}) {_OPTIONS}",
    f"CREATE TABLE IF NOT EXISTS atoll_applied ({_APPLIED}) {_OPTIONS}",
)
"""The statements that make the tables of the outbox."""

COLLATION = "utf8mb4_nopad_bin"
"""The collation with which MariaDB, like SQLite, tells all texts apart, and stores all of Unicode."""

_REFUSED = frozenset({1048, 1062, 1264, 1265, 1292, 1364, 1366, 1406, 1451, 1452, 3819, 4025})
"""The numbers of errors about one row."""

_COLLIDED = frozenset({1205, 1213, 1020})
"""The numbers of errors because of another transaction: a lock that was not free in time, a deadlock, and a changed row."""

_FOREIGN_KEYS = """
SELECT k.table_name, k.constraint_name, k.column_name, k.referenced_table_name, k.referenced_column_name, r.delete_rule, r.update_rule
FROM information_schema.key_column_usage k JOIN information_schema.referential_constraints r
ON r.constraint_schema = k.constraint_schema AND r.constraint_name = k.constraint_name AND r.table_name = k.table_name
WHERE k.table_schema = DATABASE() ORDER BY k.table_name, k.constraint_name, k.ordinal_position
"""
_TRIGGERS = """
SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = DATABASE() AND trigger_name LIKE 'atoll!_%' ESCAPE '!'
"""
_COMMENT = "SELECT table_comment FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'atoll_outbox'"
_TEXTS = "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_collation <> ?"
_SHORT = """
SELECT table_name, column_name, is_nullable FROM information_schema.columns
WHERE table_schema = DATABASE() AND data_type = 'varchar' AND character_maximum_length < ?
"""
_TIMES = """
SELECT table_name, column_name, is_nullable FROM information_schema.columns
WHERE table_schema = DATABASE() AND data_type = 'datetime' AND datetime_precision = 0
"""


def _captured(capture: outbox.Capture) -> Iterator[tuple[str, str]]:
    old, new = (_key_of(capture, row) for row in ("OLD", "NEW"))
    yield _trigger(capture.table, "INSERT", new)
    if not capture.inserts_only:
        equal = " AND ".join(f'OLD."{column}" <=> NEW."{column}"' for column in capture.columns)
        yield _trigger(capture.table, "UPDATE", f"{old} UNION {new}", f" AND NOT ({equal})")
        yield _trigger(capture.table, "DELETE", old)


def _key_of(capture: outbox.Capture, row: str) -> str:
    if via := capture.via:
        found = f'JSON_ARRAY("{via.key[0]}") FROM "{via.table}" WHERE "{via.integer}" = {row}."{capture.key[0]}"'
    else:
        columns = ", ".join(f'{row}."{column}"' for column in capture.key)
        found = f"JSON_ARRAY({columns})"
    return f"SELECT '{capture.kind}', {found}"


def _trigger(table: str, event: str, selected: str, condition: str = "") -> tuple[str, str]:
    name = f"atoll_{event.lower()}_{table}"
    action = f'IF @atoll_applying IS NULL{condition} THEN INSERT INTO atoll_outbox (kind, "key") {selected}; END IF'
    return name, f'CREATE OR REPLACE TRIGGER "{name}" AFTER {event} ON "{table}" FOR EACH ROW BEGIN {action}; END'


def _cascading(cascades: Iterable[outbox.Cascade]) -> Iterator[tuple[str, str]]:
    seen: Counter[str] = Counter()
    for each in cascades:
        number = seen[each.table]
        seen[each.table] += 1
        name = f"atoll_cascade_{each.table}_{number}"
        pairs = zip(each.columns, each.parent_columns, strict=True)
        delete = f'DELETE FROM "{each.table}" WHERE ' + " AND ".join(f'"{mine}" = OLD."{theirs}"' for mine, theirs in pairs)
        yield name, f'CREATE OR REPLACE TRIGGER "{name}" BEFORE DELETE ON "{each.parent}" FOR EACH ROW BEGIN {delete}; END'


class _ForeignKey(NamedTuple):
    """A foreign key, as `outbox.Cascade` describes one, with its name and rules."""

    name: str
    columns: outbox.Cascade
    on_delete: str
    on_update: str

    def addition(self) -> str:
        """Return the statement that adds the key to its table."""
        each = self.columns
        mine, theirs = (", ".join(f'"{name}"' for name in names) for names in (each.columns, each.parent_columns))
        rules = f"ON DELETE {self.on_delete} ON UPDATE {self.on_update}"
        return f'ALTER TABLE "{each.table}" ADD CONSTRAINT "{self.name}" FOREIGN KEY ({mine}) REFERENCES "{each.parent}" ({theirs}) {rules}'


def _foreign_keys(session: Session) -> Iterator[_ForeignKey]:
    """Yield the foreign keys of the schema."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in session.execute(_FOREIGN_KEYS):
        found.setdefault((row[0], row[1]), []).append(row)
    for (table, name), some in found.items():
        parent, on_delete, on_update = some[0][3], some[0][5], some[0][6]
        columns = outbox.Cascade(table, tuple(row[2] for row in some), parent, tuple(row[4] for row in some))
        yield _ForeignKey(name, columns, on_delete, on_update)


def _cascades(session: Session) -> set[outbox.Cascade]:
    """Return the cascades of the schema's foreign keys, and those of the outbox."""
    keys = {each.columns for each in _foreign_keys(session) if each.on_delete == "CASCADE"}
    covered = {(each.table, each.parent) for each in keys}
    return keys | {each for each in outbox.cascades() if (each.table, each.parent) not in covered}


class MariaDBSession(ServerSession):
    """A transaction of MariaDB."""

    def begin_applying(self) -> None:
        """Keep this transaction's changes out of the outbox."""
        self.execute("SET @atoll_applying = 1")

    def end_applying(self) -> None:
        """End what `begin_applying` began."""
        self.execute("SET @atoll_applying = NULL")


class MariaDBDatabase(ServerDatabase):
    """Keystone's database in MariaDB."""

    arguments: ClassVar[dict[str, Any]] = {"connect_timeout": CONNECT_S, "read_timeout": ANSWER_S, "write_timeout": ANSWER_S}
    on_connect = (
        "SET SESSION sql_mode = 'ANSI_QUOTES,STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES,NO_ENGINE_SUBSTITUTION'",
        "SET SESSION innodb_lock_wait_timeout = 1, lock_wait_timeout = 5, foreign_key_checks = 0",
        f"SET NAMES utf8mb4 COLLATE {COLLATION}",
    )
    begin_reading = ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
    begin_writing = ("SET @atoll_applying = NULL", "SET TRANSACTION ISOLATION LEVEL READ COMMITTED", "START TRANSACTION READ WRITE")

    def install(self) -> bool:
        """Connect, and install the outbox; see `IdentityDatabase`.

        Each statement that changes a schema is a transaction of its own. The digest of all is written last, as the comment of the outbox.
        A digest without all triggers is possible, as after a restored dump that left them out.
        """
        self.close()
        with self._session() as session:
            before = list(session.execute(_COMMENT))
            triggers = dict(each for capture in outbox.captures() for each in _captured(capture))
            triggers |= dict(_cascading(sorted(_cascades(session), key=str)))
            mark = outbox.fingerprint(triggers.values())
            present = {name for (name,) in session.execute(_TRIGGERS)}
            if before != [(mark,)] or not present.issuperset(triggers):
                for statement in (*TABLES, *triggers.values()):
                    session.execute(statement)
                for name in present.difference(triggers):
                    session.execute(f'DROP TRIGGER "{name}"')
                session.execute(f"ALTER TABLE atoll_outbox COMMENT = '{mark}'")
        return not before

    def adapt(self) -> None:
        """Have all tables store all of Unicode, long descriptions and fractions of seconds, and tell all texts apart."""
        with self._session() as session:
            [(name,)] = session.execute("SELECT DATABASE()")
            session.execute(f'ALTER DATABASE "{name}" CHARACTER SET utf8mb4 COLLATE {COLLATION}')
            keys = list(_foreign_keys(session))
            for key in keys:  # MariaDB changes no column with a foreign key
                session.execute(f'ALTER TABLE "{key.columns.table}" DROP FOREIGN KEY "{key.name}"')
            for (table,) in session.execute(_TEXTS, (COLLATION,)):
                session.execute(f'ALTER TABLE "{table}" CONVERT TO CHARACTER SET utf8mb4 COLLATE {COLLATION}')
            short = [row for row in session.execute(_SHORT, (MAX_LONG,)) if row[1] in LONG]
            for kind, columns in (("DATETIME(6)", session.execute(_TIMES)), ("TEXT", short)):
                for table, column, nullable in columns:
                    suffix = "NULL" if nullable == "YES" else "NOT NULL"
                    session.execute(f'ALTER TABLE "{table}" MODIFY "{column}" {kind} {suffix}')
            for statement in (*(key.addition() for key in keys), *TABLES):
                session.execute(statement)

    def is_error(self, error: Exception) -> bool:
        """Return whether an exception is one of PyMySQL."""
        return isinstance(error, pymysql.Error)

    def translated(self, error: BaseException) -> DatabaseError:
        """Return the error of this package that corresponds to one of PyMySQL."""
        number = error.args[0] if error.args else 0
        text = str(error.args[1]) if len(error.args) > 1 else str(error)
        return (RowRefused if number in _REFUSED else Collided if number in _COLLIDED else DatabaseError)(text)

    def _set_autocommit(self, connection: Any) -> None:
        connection.autocommit(True)

    def _new_session(self, connection: Any) -> Session:
        return MariaDBSession(connection)
