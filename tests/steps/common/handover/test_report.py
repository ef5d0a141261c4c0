"""The evaluation's report: what every release wrote is read, what is no report is refused in one line."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from steps.common.handover.report import (
    EvaluationReport,
    PreparedRecord,
    TuningRecord,
    read_report,
    read_step_report,
    write_report,
)
from steps.common.runtime.errors import UserError
from tests.support.evaluation_reports import EARLIER, write_changed_report
from tests.support.golden import golden

SCHEMA_VERSION = EvaluationReport.model_fields["schema_version"].default
WRITTEN_BEFORE = sorted(EARLIER.glob("schema_*.json"))
CHAMPION, LM_EVAL, PREFERENCES = WRITTEN_BEFORE


@pytest.mark.parametrize("file", WRITTEN_BEFORE, ids=lambda file: file.stem)
def test_a_report_of_an_earlier_release_is_read_and_its_keys_stay(file: Path, tmp_path: Path) -> None:
    before = json.loads(file.read_text())
    assert "schema_version" not in before
    write_report(read_report(file), tmp_path / "report.json")
    after = json.loads((tmp_path / "report.json").read_text())
    assert after == {"schema_version": SCHEMA_VERSION, **before}
    assert read_report(tmp_path / "report.json") == read_report(file)


def test_the_numbers_are_where_they_were() -> None:
    report = read_report(CHAMPION)
    assert report.passed
    assert report.champion_version == 1
    assert report.scores["candidate"].loss == pytest.approx(1.2508150916)
    assert report.gains.base.low == pytest.approx(0.7397465378)
    assert report.general is not None
    assert report.general.accuracy["base"] == pytest.approx(0.7040816327)
    assert report.answers[0].candidate_meets
    assert not report.has_preferences
    assert "pairs" not in report.scores["candidate"].metrics()
    assert [task.name for task in read_report(LM_EVAL).tasks] == ["acc of shop", "exact_match of said, 1-shot"]


def test_preferences_are_the_candidates_and_not_the_bases() -> None:
    report = read_report(PREFERENCES)
    assert report.has_preferences
    assert report.scores["candidate"].metrics()["pairs"] == 6
    assert report.scores["candidate"].preference_in_words == "100.0% of 6"
    assert report.scores["base"].preference_in_words == "-"
    assert report.tuning is not None
    assert report.tuning.rewards


def test_keys_that_a_later_release_adds_are_ignored(tmp_path: Path) -> None:
    assert read_report(write_changed_report(tmp_path / "report.json", weather="fine")) == read_report(CHAMPION)


def test_what_is_not_a_number_is_null_in_the_json_and_read_back(tmp_path: Path) -> None:
    gain = {"value": 0.2, "low": None, "high": None, "rows": 1}
    scores = {"base": {"loss": math.nan, "perplexity": math.nan, "accuracy": 0.5, "tokens": 10}}
    scores["candidate"] = scores["base"] | {"loss": 1.0}
    report = read_report(
        write_changed_report(tmp_path / "report.json", gains={"base": gain, "champion": None}, scores=scores)
    )
    write_report(report, tmp_path / "again.json")
    text = (tmp_path / "again.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    again = read_report(tmp_path / "again.json")
    assert (again.gains.base.low, again.gains.base.high) == (-math.inf, math.inf)
    assert math.isnan(again.scores["base"].loss)
    assert again.scores["candidate"].loss == 1.0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "the evaluation's report is missing; start a new run"),
        ("{", "not an evaluation report: not valid JSON: "),
        ("[]", "not an evaluation report: content: "),
        (
            '{"schema_version": 99}',
            "written by a later release: it has schema version 99, and this release reads",
        ),
        ('{"schema_version": "one"}', "not an evaluation report: schema_version: "),
        ('{"scores": {}}', "not an evaluation report: run: Field required"),
    ],
)
def test_what_is_no_report_is_refused_in_one_line(text: str | None, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError) as raised:
        read_report(file)
    assert str(raised.value).startswith(f"{file}: {reason}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", [PreparedRecord, TuningRecord])
def test_what_prepare_and_tune_of_0_1_0_have_stored_is_read_and_a_later_one_is_refused(
    tmp_path: Path, kind: type[Any]
) -> None:
    name = "prepared_report" if kind is PreparedRecord else "tuning_report"
    stored = golden(f"records/{name}.json").read_text()
    file = tmp_path / "report.json"
    file.write_text(stored)
    read = read_step_report(kind, tmp_path)
    assert json.loads(stored).items() <= json.loads(read.model_dump_json()).items()
    file.write_text(json.dumps(json.loads(stored) | {"schema_version": 2}))
    with pytest.raises(UserError, match="written by a later release: it has schema version 2"):
        read_step_report(kind, tmp_path)
    file.write_text(stored[:40])
    with pytest.raises(UserError, match=r"report\.json: not a report: .*; delete the folder"):
        read_step_report(kind, tmp_path)
    file.unlink()
    with pytest.raises(UserError, match=r"report\.json: the report is missing; delete the folder"):
        read_step_report(kind, tmp_path)
