"""Fuzz one target under coverage: `python tests/fuzz/fuzz.py TARGET [libFuzzer's options]`; `make fuzz` runs them all.

It needs atheris, which `make fuzz` installs beside the project's own environment. The corpus is kept below `.fuzz`.
"""

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent))

INSTRUMENTED = [
    "atoll.gateway",
    "atoll.services.patches.shared.slow_clients",
    "atoll.services.neutron.ovn.resolver",
    "atoll.services.wsgi",
    "atoll.identity",
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
    """Fuzz the target on the command line."""
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
