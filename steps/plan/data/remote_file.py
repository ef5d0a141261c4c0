"""A remote file."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class RemoteFile:
    """What the source reports about a file, and how to read it."""

    name: str
    pinned: str  # its URL, pinned as far as possible, without secrets
    tag: str  # changes with the content; empty: the source provides no such tag
    size: int  # in bytes; 0: unknown
    blocks: Callable[[], Iterator[bytes]]  # reads the file from the start; raises InterruptedReadError
    address: str = ""  # its own, if the URL that was asked for is that of a folder
