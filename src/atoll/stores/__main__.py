"""Commands for the operator of a store's log in Redis: `python -m atoll.stores status|compact|verify|reseed|seed URL`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from atoll.stores import maintenance
from atoll.stores.errors import StoreError
from atoll.stores.store import Store
from atoll.stores.url import parse


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m atoll.stores", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, text in (
        ("status", "show the state of the log and of the replica"),
        ("compact", "store a snapshot in the log, and delete older entries"),
        ("verify", "compare the replica with the log"),
        ("reseed", "restore entries from this replica that the log has lost"),
        ("seed", "create a log from a SQLite database"),
    ):
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("url", help="the database's URL")
        if name == "compact":
            verb.add_argument(
                "--keep", type=int, default=maintenance.KEEP_ENTRIES, help="number of newest entries to keep (default: %(default)s)"
            )
        elif name == "reseed":
            verb.add_argument("--discard", action="store_true", help="discard entries of the log that this replica lacks")
        elif name == "seed":
            verb.add_argument("database", type=Path, help="path of the SQLite database")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command, and return the exit status: 0 for success, 1 for an error or a difference."""
    options = _parser().parse_args(arguments)
    try:
        settings = parse(make_url(options.url))
        if options.verb == "seed":
            sys.stdout.write(f"the log {settings.log} begins with {maintenance.seed(settings, options.database)} tables\n")
            return 0
        store = Store(settings, follow=False)
        try:
            return _act(store, options)
        finally:
            store.close()
    except (StoreError, ArgumentError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


def _act(store: Store, options: argparse.Namespace) -> int:
    match options.verb:
        case "compact":
            sys.stdout.write(f"{maintenance.compact(store, options.keep)} entries deleted\n")
        case "verify":
            different = maintenance.verify(store)
            sys.stdout.write(f"different from the log: {', '.join(different)}\n" if different else "the replica equals the log\n")
            return int(bool(different))
        case "reseed":
            done = maintenance.reseed(store, discard=options.discard)
            kind = "made anew" if done.anew else "continued"
            sys.stdout.write(f"log {kind}: {done.restored} entries restored, {done.discarded} discarded\n")
        case _:
            position = store.replica.position(store.group.writer.db)
            refusal = store.group.refusal
            sys.stdout.write(
                json.dumps({"position": position.n, "refusal": str(refusal) if refusal else None, **store.metrics.as_dict()}) + "\n"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
