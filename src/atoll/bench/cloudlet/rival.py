"""The program that overlays are compared with: `zstd --patch-from`, which compresses a file with another file as its dictionary."""

from __future__ import annotations

import filecmp
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from atoll.bench.failure import failed

_MOST = 2_000_000_000
"""Greatest size of a file in bytes: `zstd --patch-from` accepts no file above 2 GiB."""

_LEVEL = "-3"


def measure(directory: Path, base: Path, new: Path, mib: float) -> dict[str, Any]:
    """Encode and decode a file against its base, once, with one thread.

    Args:
        directory: a directory for the encoded and decoded files.
        base: the file of the base.
        new: the file to encode.
        mib: the amount of changed pages, in MiB, to which the speed refers.

    Returns:
        The size of the patch, the speeds, and whether the decoded file is exact; empty if `zstd` is missing, or the file is too large.

    Raises:
        AtollError: `bench.failed`: `zstd` failed.
    """
    if shutil.which("zstd") is None or new.stat().st_size > _MOST:
        return {}
    patch, made = directory / "patch.zst", directory / "patched"
    encode_s = _run("zstd", _LEVEL, "-q", "-f", f"--patch-from={base}", str(new), "-o", str(patch))
    apply_s = _run("zstd", "-d", "-q", "-f", "--memory=2048MB", f"--patch-from={base}", str(patch), "-o", str(made))
    return {
        "patch_from_mib": round(patch.stat().st_size / (1 << 20), 2),
        "patch_from_encode_mib_s": round(mib / encode_s, 1),
        "patch_from_apply_s": round(apply_s, 3),
        "patch_from_bit_exact": filecmp.cmp(new, made, shallow=False),
    }


def _run(*words: str) -> float:
    begun = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise failed(f"{words[0]} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return time.perf_counter() - begun
