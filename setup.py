"""What pyproject.toml can't say: that a module is compiled through cffi."""

from setuptools import setup

setup(cffi_modules=["src/atoll/wan/build.py:ffi"])
