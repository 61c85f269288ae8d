"""The table of options and bounds in docs/bus.md. If it differs, `python tests/docs/test_bus_page.py` prints the right one."""

import re
import sys
from pathlib import Path

import pytest

from atoll.bus import address, options, outbox, peers, seen

PATH = Path(__file__).parents[2] / "docs" / "bus.md"
PAGE = PATH.read_text(encoding="utf-8") if PATH.exists() else ""


def row(option) -> str:
    """Return the row of an option in the table."""
    default = option.sample_default or option.default
    shown = ",".join(default) if isinstance(default, list) else str(default).lower() if isinstance(default, bool) else str(default)
    help_text = option.help
    if getattr(option.type, "choices", None):
        help_text += " " + "; ".join(f"`{value}`: {meaning}" for value, meaning in option.type.choices.items()) + "."
    return f"| `{option.name}` | {f'`{shown}`' if shown else ''} | {help_text} |"


@pytest.mark.parametrize("option", options.OPTIONS, ids=lambda option: option.name)
def test_option_is_in_the_table(option):
    assert row(option) in PAGE.splitlines()


def test_table_has_no_other_option():
    table = PAGE.partition("## Options")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [option.name for option in options.OPTIONS]


def test_bounds_are_those_of_the_code():
    assert f"port {address.DEFAULT_PORT}" in PAGE
    assert f"{seen.MAX_SENDERS:,} senders" in PAGE
    assert f"{peers.MAX_SOCKET_PATH} bytes" in PAGE
    assert "for listeners once a second" in PAGE
    assert outbox.POLL_INTERVAL_S == 1, "the page says once a second"


if __name__ == "__main__":
    sys.stdout.write("| option | default | meaning |\n|---|---|---|\n" + "".join(row(option) + "\n" for option in options.OPTIONS))
