"""Spans of a file in a folder of this machine, or of a volume."""

import os
from collections.abc import Iterator

from steps.common.runtime.errors import UserError
from steps.common.weights.sources.listing import SourceFile

BLOCK = 1 << 20
READERS = 4  # more of them only move the disk's head


class Disk:
    """Reads files."""

    def read(self, file: SourceFile, start: int, end: int) -> Iterator[bytes]:
        """Yield the blocks of a span.

        Raises:
            UserError: the file is gone, or is shorter than it was.
        """
        try:
            descriptor = os.open(file.url, os.O_RDONLY)
        except FileNotFoundError:
            raise UserError(f"{file.url}: is gone; it was there when the run was planned") from None
        try:
            while start < end:
                block = os.pread(descriptor, min(BLOCK, end - start), start)
                if not block:
                    raise UserError(f"{file.url}: has become shorter; plan the run again")
                yield block
                start += len(block)
        finally:
            os.close(descriptor)
