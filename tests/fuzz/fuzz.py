"""Fuzz one target under coverage: `python tests/fuzz/fuzz.py TARGET [libFuzzer's options]`; `make fuzz` runs them all.

It needs atheris (`make fuzz` installs it beside the project's own environment). What it has learned is kept in a corpus, below `.fuzz`.
"""

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent))

INSTRUMENTED = [
    "atoll.gateway",
    "atoll.services.arrival",
    "atoll.services.ovn.resolver",
    "atoll.services.wsgi",
    "atoll.mesh",
    "atoll.bus",
    "cheroot.server",
    "dns",
    "nova.api.metadata.handler",
]
with atheris.instrument_imports(include=INSTRUMENTED):
    import seeds
    import targets

    FUZZED = targets.target(sys.argv[1])


def main() -> None:
    """Fuzz."""
    name, *options = sys.argv[1:]
    corpus = Path(".fuzz") / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds.of(name)):
        (corpus / f"seed-{number}").write_bytes(seed)
    findings = Path(".fuzz") / "findings"
    findings.mkdir(exist_ok=True)
    atheris.Setup([sys.argv[0], str(corpus), f"-artifact_prefix={findings}/{name}-", "-rss_limit_mb=1024", "-timeout=10", *options], FUZZED)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
