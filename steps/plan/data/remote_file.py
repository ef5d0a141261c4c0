"""A file that lies elsewhere."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class RemoteFile:
    """What its source says of a file, and how to read it."""

    name: str
    pinned: str  # its URL as far as it can be pinned, without anything secret
    tag: str  # changes when the content does; empty: the source tells nothing of the kind
    size: int  # in bytes; 0: not known
    blocks: Callable[[], Iterator[bytes]]  # reads it from the beginning; raises InterruptedReadError
