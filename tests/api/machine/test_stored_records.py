"""Records that are cached until their file changes."""

import logging
from pathlib import Path

import pytest

from api.machine.stored_records import StoredRecords


def test_a_file_that_cannot_be_read_now_is_read_later_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records, file = StoredRecords(lambda content, _: content.decode(), 10), tmp_path / "record"
    assert records.look(file) == (None, True)
    file.mkdir()
    with caplog.at_level(logging.WARNING, "fineline.api"):
        for _ in range(3):
            assert records.look(file) == (None, False)
    assert [record.getMessage() for record in caplog.records] == [f"{file}: Is a directory"]
    file.rmdir()
    file.write_text("a")
    assert records.look(file) == ("a", True)


def test_a_file_that_is_no_record_is_none_until_it_changes(tmp_path: Path) -> None:
    records, file = StoredRecords(lambda content, _: int(content), 10), tmp_path / "record"
    file.write_text("x")
    assert records.look(file) == (None, True)
    file.write_text("12")
    assert records.look(file) == (12, True)
