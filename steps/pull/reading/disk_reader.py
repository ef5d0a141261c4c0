"""Reads spans of a file on a disk of this machine or on a volume."""

import os
from collections.abc import Iterator

from steps.common.runtime.errors import UserError
from steps.common.weights.sources.listing import SourceFile

BLOCK = 1 << 20
READERS = 4  # more would only move a disk's head back and forth


class Disk:
    """Reads files on a disk."""

    def read(self, file: SourceFile, start: int, end: int) -> Iterator[bytes]:
        """Yield the blocks of a span.

        Raises:
            UserError: the file has been deleted or truncated.
        """
        try:
            descriptor = os.open(file.url, os.O_RDONLY)
        except FileNotFoundError:
            raise UserError(f"{file.url}: no longer exists; it did when the run was planned") from None
        try:
            while start < end:
                block = os.pread(descriptor, min(BLOCK, end - start), start)
                if not block:
                    raise UserError(f"{file.url}: has become shorter since the run was planned; plan the run again")
                yield block
                start += len(block)
        finally:
            os.close(descriptor)
