"""The command line: verbs that parse, call and print.

Data goes to standard output, everything else to standard error. Each verb is a module of this package with a `command`;
`group.VERBS` lists them. Modules that take long to import are imported inside the functions that need them.
"""

from atoll.cli.main import main

__all__ = ["main"]
