"""Options that both use cases have, and the choice of their cloud."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from use_cases.cloud import AtollCloud, Cloud, CloudError, NoCloud


def parser(program: str, about: str, places: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of a use case's command line."""
    made = argparse.ArgumentParser(prog=program, description=about)
    where = made.add_mutually_exclusive_group()
    where.add_argument("--without-cloud", action="store_true", help="run on this machine alone: no server is started")
    names = " ".join(place.upper() for place in places)
    where.add_argument(
        "--sites", nargs=len(places), metavar="SITE", default=["paris", "nice"][: len(places)],
        help=f"the sites of the running Atoll cloud, {names} (default: %(default)s, of examples/triangle.yaml)",
    )  # fmt: skip
    made.add_argument("--seed", type=int, default=7, metavar="N", help="the seed of everything that is simulated (default: %(default)s)")
    made.add_argument(
        "--page", type=Path, default=Path("build") / f"{program}.html", metavar="FILE", help="the page to write (default: %(default)s)"
    )
    made.add_argument("--open", action="store_true", help="open the page in the browser")
    return made


def failed(error: CloudError) -> int:
    """Print why the cloud failed, and return the exit code."""
    print(f"error: {error}\nhint: `atoll up examples/triangle.yaml` starts a cloud; --without-cloud needs none", file=sys.stderr)
    return 1


def ended(options: argparse.Namespace, late: Sequence[str]) -> int:
    """Name the page and what was too late, and return the exit code."""
    print(f"page: {options.page}")
    if options.open:
        webbrowser.open(options.page.resolve().as_uri())
    for sentence in late:
        print(f"error: {sentence}", file=sys.stderr)
    return 1 if late else 0


def chosen(options: argparse.Namespace, places: Sequence[str], name: str) -> Cloud:
    """Return the cloud that the options name.

    Raises:
        CloudError: it does not run.
    """
    if options.without_cloud:
        return NoCloud()
    return AtollCloud(dict(zip(places, options.sites, strict=True)), name)
