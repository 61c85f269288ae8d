"""Compiles the data path; setup.py names this to setuptools. It needs gcc and Python's headers."""

from __future__ import annotations

import re
from pathlib import Path

from cffi import FFI

_HERE = Path(__file__).parent
_FROM_ROOT = Path("src/atoll/wan")  # setuptools wants the paths of sources relative to setup.py

ffi = FFI()
"""What `cffi_modules` of setup.py is told."""

ffi.cdef(re.sub(r"/\*.*?\*/", "", (_HERE / "datapath.h").read_text(encoding="utf-8"), flags=re.DOTALL))
ffi.set_source(
    "atoll.wan._datapath",
    '#include <stdint.h>\n#include "datapath.h"\n',
    sources=[str(_FROM_ROOT / "datapath.c")],
    include_dirs=[str(_FROM_ROOT)],
    depends=[str(_FROM_ROOT / "datapath.h")],
    libraries=["pthread"],
    extra_compile_args=["-O2", "-std=gnu11", "-Wall", "-Wextra", "-fno-strict-aliasing"],
    # Whoever has no compiler does without the emulator, and is told so when it is asked for.
    optional=True,
)
