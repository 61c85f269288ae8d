"""The compilation of the userspace emulator's data path, called by setup.py. It needs gcc and Python's headers."""

from __future__ import annotations

import re
from pathlib import Path

from cffi import FFI

_HERE = Path(__file__).parent
_FROM_ROOT = Path("src/atoll/wan")  # setuptools expects paths of sources relative to setup.py

ffi = FFI()
"""The builder that `cffi_modules` of setup.py names."""

ffi.cdef(re.sub(r"/\*.*?\*/", "", (_HERE / "datapath.h").read_text(encoding="utf-8"), flags=re.DOTALL))
ffi.set_source(
    "atoll.wan._datapath",
    '#include <stdint.h>\n#include "datapath.h"\n',
    sources=[str(_FROM_ROOT / "datapath.c")],
    include_dirs=[str(_FROM_ROOT)],
    depends=[str(_FROM_ROOT / "datapath.h")],
    libraries=["pthread"],
    extra_compile_args=["-O2", "-std=gnu11", "-Wall", "-Wextra", "-fno-strict-aliasing"],
    # Without a compiler, the package is installed without the userspace emulator, whose first use then reports the reason.
    optional=True,
)
