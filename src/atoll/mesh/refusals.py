"""The refusals of updates of the replicated document."""

from __future__ import annotations


class Refused(Exception):
    """The refusal of an update, or of a part of an update, which has changed nothing."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnknownAuthor(Refused):
    """The author's certificate is not known yet: its admission may be in a part that has not arrived."""

    def __init__(self, author: str) -> None:
        super().__init__(f"{author} is not a known member")
        self.author = author


class Behind(Refused):
    """A part of a stream that can't be applied, because this site lacks earlier entries of the stream.

    Attributes:
        author: the author of the stream.
        wholly: True if this site cannot use its copy of the stream, and needs all of it.
    """

    def __init__(self, author: str, *, wholly: bool) -> None:
        super().__init__(f"the entries of {author} before this part are missing here")
        self.author = author
        self.wholly = wholly


class Contradiction(Refused):
    """An author has reverted an entry: it has lost entries and needs them back, or it is hostile."""

    def __init__(self, author: str, name: str) -> None:
        super().__init__(f"{author} has reverted its entry about {name!r:.100}")
        self.author = author


class Full(Refused):
    """A stream would exceed the weight that readers accept. Deletions, and entries that become smaller, are always accepted."""

    def __init__(self, author: str) -> None:
        super().__init__(f"the stream of {author} is full")
        self.author = author
