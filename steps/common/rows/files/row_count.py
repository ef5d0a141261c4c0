"""How many records a data file has, from its first ones: exact for Parquet and Arrow, an estimate for text."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from steps.common.rows.files.columnar import batches, parquet_rows
from steps.common.rows.files.file_content import content_bytes, open_content
from steps.common.rows.files.file_kind import KINDS, suffixes
from steps.common.rows.files.raw_record import RawRecord


def record_count(path: Path, head: Sequence[RawRecord]) -> float:
    """Return about how many records a file has.

    Args:
        path: the file.
        head: its first records, at least one.
    """
    kind = KINDS[suffixes(path.name)[0]]
    if kind == "parquet":
        return parquet_rows(path)
    if kind == "arrow":
        return float(sum(batch.num_rows for batch in batches(path)))
    read = sum(len(one.payload) + 1 for one in head)
    if kind != "json":  # the records of a file by lines have more or fewer bytes in it than in JSON
        with open_content(path) as content:
            read = sum(len(line) for line in islice(content, head[-1].line)) or read
    return float(max(len(head), len(head) * content_bytes(path) / read))
