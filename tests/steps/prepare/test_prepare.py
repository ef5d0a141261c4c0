"""The prepare step: the same rows result in the same files, whatever their order and the number of processes."""

import json
import os
from pathlib import Path
from typing import Any

import multiprocess
import pytest

from recipes.data import Data
from steps.common.handover.report import PreparedRecord, read_step_report
from steps.common.handover.resolved import DataFile, DataSource, Resolved, ResolvedData
from steps.common.model.packs import IGNORE_INDEX
from steps.common.model.prepared_rows import TRAIN, VALIDATION, PreparedTexts
from steps.common.runtime.errors import UserError
from steps.common.storage.files import folder_digest, sha256_of
from steps.prepare import map_rows, raw_pieces
from steps.prepare.step import PrepareInput, prepare
from tests.conftest import WORDS
from tests.support.golden import golden


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FINELINE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    return tmp_path / "runs"


def rows_of(count: int, word: str = "cats") -> list[dict[str, Any]]:
    said = [WORDS[number * 7 % 20] for number in range(count)]
    return [{"prompt": f"have you {word} {number}?", "completion": f"yes {one}"} for number, one in enumerate(said)]


def source(folder: Path, name: str, rows: list[dict[str, Any]], **part: Any) -> DataSource:
    file = folder / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    planned = DataFile(path=str(file), sha256=sha256_of(file), bytes=file.stat().st_size)
    return DataSource(source=name, files=[planned], **part)


def prepared(
    model: Path, train: list[DataSource], validation: list[DataSource] | None = None, **settings: Any
) -> tuple[Path, PreparedRecord, str]:
    """Prepare rows, and return their folder, their report and the summary."""
    stored = golden("version/resolved.json")
    resolved = Resolved.read(stored.read_text(), stored)
    data = Data(train="rows.jsonl", **{"max_tokens": 64, "validation_share": 0.25, **settings})
    wanted = resolved.model_copy(
        update={
            "recipe": resolved.recipe.model_copy(update={"data": data}),
            "data": ResolvedData(train=train, validation=validation or []),
            "lm_eval": [],
        }
    )
    made = prepare(PrepareInput(resolved=wanted, tokenizer_folder=str(model)))
    return Path(made.folder), read_step_report(PreparedRecord, Path(made.folder)), made.summary


def texts(folder: Path, side: str, model: Path) -> list[str]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    found = PreparedTexts.open(folder / side)
    return [tokenizer.decode([label for label in row.labels if label != IGNORE_INDEX]) for row in found]


def test_any_number_of_processes_and_pieces_writes_the_same_files(
    tiny_model: Path, tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [*rows_of(60), {"prompt": "?", "completion": ""}, *rows_of(4)]
    digests = set()
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    before = (None, multiprocess.get_start_method(allow_none=True))
    for processes, piece_bytes in ((1, 1 << 20), (2, 1 << 20), (2, 1000)):
        monkeypatch.setattr(map_rows, "cores", lambda processes=processes: processes)
        monkeypatch.setattr(map_rows, "ROWS_A_PROCESS", 2)
        monkeypatch.setattr(map_rows, "BATCH_ROWS", 7)
        monkeypatch.setattr(raw_pieces, "PIECE_BYTES", piece_bytes)
        folder, report, _ = prepared(tiny_model, [source(tmp_path, "rows.jsonl", rows)], on_bad_row="skip")
        digests.add(folder_digest(folder))
        assert (report.train_rows, report.validation_rows, report.duplicates, report.bad_rows) == (45, 15, 4, 1)
        assert (folder / "bad_rows.txt").read_text().startswith(f"{tmp_path}/rows.jsonl:61: ")
        assert {path.name for path in folder.iterdir()} == {"train", "validation", "bad_rows.txt", "report.json"}
        folder.rename(tmp_path / f"done-{len(list(tmp_path.iterdir()))}")
    assert len(digests) == 1
    assert not (tmp_path / "hub").exists()  # nothing is kept elsewhere
    assert (os.environ.get("TOKENIZERS_PARALLELISM"), multiprocess.get_start_method(allow_none=True)) == before


def test_the_order_of_the_rows_decides_nothing_but_their_order(tiny_model: Path, tmp_path: Path) -> None:
    rows = [*rows_of(30), *({**row, "completion": row["completion"].upper()} for row in rows_of(30)[::3])]
    sides = []
    for name, order in (("rows.jsonl", rows), ("other.jsonl", rows[::-1])):
        folder, report, _ = prepared(tiny_model, [source(tmp_path, name, order)])
        assert report.duplicates == 10
        sides.append([sorted(texts(folder, side, tiny_model)) for side in (TRAIN, VALIDATION)])
    assert sides[0] == sides[1]


def test_a_held_out_row_has_its_conversation_and_a_training_row_needs_none(tiny_model: Path, tmp_path: Path) -> None:
    held = [{"prompt": "have you dogs?", "completion": "no"}, {"text": "yes"}]
    train, validation = source(tmp_path, "rows.jsonl", rows_of(5)), source(tmp_path, "held.jsonl", held)
    folder, report, _ = prepared(tiny_model, [train], [validation])
    chat, text = PreparedTexts.open(folder / VALIDATION)
    assert chat.conversation
    assert [message.content for message in chat.conversation.messages] == ["have you dogs?", "no"]
    assert text.conversation is None
    assert {row.conversation for row in PreparedTexts.open(folder / TRAIN)} == {None}
    assert (report.train_rows, report.validation_rows, report.leaked) == (5, 2, 0)


def test_a_mixture_is_drawn_from_what_is_left_and_reported_by_source(tiny_model: Path, tmp_path: Path) -> None:
    held = source(tmp_path, "held.jsonl", rows_of(2))
    twice = source(tmp_path, "twice.jsonl", rows_of(6), weight=2.0)
    half = source(tmp_path, "half.jsonl", rows_of(8, "dogs"), weight=0.5)
    folder, report, summary = prepared(tiny_model, [twice, half], [held])
    assert [(one.rows, one.weight) for one in report.sources] == [(8, 2.0), (4, 0.5)]
    assert (report.train_rows, report.leaked) == (12, 2)
    assert sum(one.tokens for one in report.sources) == report.train_tokens
    found = texts(folder, TRAIN, tiny_model)
    assert len(found) == 12
    assert "twice.jsonl, 2 times per epoch: 8 rows" in summary


def test_columns_without_an_effect_are_named_once(tiny_model: Path, tmp_path: Path) -> None:
    rows = [{**row, "category": "pets"} for row in rows_of(6)]
    _, report, summary = prepared(tiny_model, [source(tmp_path, "rows.jsonl", [*rows, *rows_of(3, "dogs")])])
    assert report.ignored == {"category": 6}
    assert summary.endswith("; ignored: category (6 rows)")


@pytest.mark.parametrize(
    ("train", "held", "settings", "message"),
    [
        ([{"prompt": "a", "completion": ""}], [], {"on_bad_row": "skip"}, r"data\.train: none of its rows can be used"),
        (rows_of(3), [{"x": 1}], {"on_bad_row": "skip"}, r"data\.validation: none of its rows can be used"),
        ([{"x": 1}, *rows_of(3), {"y": 1}], [], {}, r"rows\.jsonl:1: .* \(and 1 more bad rows\); fix the row"),
        ([{"prompt": "a", "chosen": "b", "rejected": "c"}], [], {}, r"rows\.jsonl:1: .*set tune\.objective=dpo"),
    ],
)
def test_rows_that_cannot_be_prepared_leave_a_line_and_nothing_else(
    tiny_model: Path, tmp_path: Path, runs: Path, train: Any, held: Any, settings: Any, message: str
) -> None:
    validation = [source(tmp_path, "held.jsonl", held)] if held else []
    with pytest.raises(UserError, match=message):
        prepared(tiny_model, [source(tmp_path, "rows.jsonl", train)], validation, **settings)
    assert not [path for path in (runs / "prepared").iterdir() if path.is_dir()]


def test_a_pair_of_the_wrong_kind_is_told_by_another_process_too(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(map_rows, "cores", lambda: 2)
    monkeypatch.setattr(map_rows, "ROWS_A_PROCESS", 2)
    rows = [*rows_of(9), {"prompt": "a", "chosen": "b", "rejected": "c"}]
    with pytest.raises(UserError, match=r"^\S+rows\.jsonl:10: has a chosen and a rejected answer"):
        prepared(tiny_model, [source(tmp_path, "rows.jsonl", rows)])
