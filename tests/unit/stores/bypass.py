"""A program that writes to a replica past the store: `bypass.py FILE STATEMENT [admitted]`. It prints SQLite's error, if any.

It is a process of its own: two SQLite libraries in one process would break each other's locks.
"""

import sqlite3
import subprocess
import sys
from pathlib import Path


def write(path: Path, statement: str, *, admitted: bool = False) -> str:
    """Run a statement on a replica in another process; return the error. If `admitted`, it defines the function of the guards."""
    command = [sys.executable, __file__, str(path), statement, *(["admitted"] if admitted else [])]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    connection = sqlite3.connect(sys.argv[1])
    if sys.argv[3:]:
        connection.create_function("written_past_the_store", 0, lambda: None)
    try:
        with connection:
            connection.execute(sys.argv[2])
    except sqlite3.Error as error:
        sys.stdout.write(f"{error}\n")
