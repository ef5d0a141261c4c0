"""A record as it stands in a file, before anything is made of it."""

from typing import NamedTuple


class RawRecord(NamedTuple):
    """The JSON of one record. Reading it is cheap; parsing it can be left to another process."""

    line: int  # in the file, counted from 1; in a JSON array, Parquet or Arrow file, the row
    payload: bytes  # JSON of the columns, as UTF-8; not checked yet
    reason: str = ""  # why there is no payload
