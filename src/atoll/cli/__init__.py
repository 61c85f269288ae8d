"""The command line: verbs that parse, call and print.

Data goes to standard output, everything else to standard error. Each verb is a module of this package with a `command`;
`group.VERBS` lists them. Whatever takes long to import is imported inside the functions that need it.
"""

from atoll.cli.main import main

__all__ = ["main"]
