"""All that is fuzzed, by name: `python tests/fuzz/targets.py TARGET…` feeds each of these its seeds."""

from __future__ import annotations

import sys

import members
import metadata
import parsers
import ports
import seeds


def target(name: str) -> ports.Target:
    """Return the function to fuzz."""
    if name == "metadata":
        return metadata.MetadataPort().feed
    return ports.Port(peer=name == "peer").feed if name in {"public", "peer"} else members.target(name) or parsers.TARGETS[name]


if __name__ == "__main__":
    for each in sys.argv[1:]:
        feed = target(each)
        for seed in seeds.of(each):
            feed(seed)
        sys.stdout.write(f"{each}\n")
