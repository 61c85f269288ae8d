"""Prepares oslo.messaging for the tests of pages that describe it."""

import native_threads

native_threads.load()
