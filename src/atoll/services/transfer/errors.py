"""The error of a transfer."""

from __future__ import annotations


class TransferError(Exception):
    """Databases can't be transferred, or not completely; the message is one line without passwords. The source is unchanged."""
