"""The report as it is put together: the keys of a report on disk, and what each one holds."""

import json
from pathlib import Path

import pytest

from recipes.evaluation import Gate, Question
from steps.common.handover.report import EvaluationReport, read_report, write_report
from steps.common.handover.report_parts import SamplePiece
from steps.common.handover.resolved import Hardware, Resolved
from steps.common.rows.conversation import Conversation
from steps.evaluate.gate.comparison import Champion, compare, scores_by_role
from steps.evaluate.gate.gate import judge
from steps.evaluate.report.make_report import answers_side_by_side, make_report
from steps.evaluate.report.mlflow_record import metrics_of
from steps.evaluate.scores.score import Score
from steps.plan.step import PlanInput, resolve
from tests.support.evaluation_reports import EARLIER

QUESTIONS = [Question(ask="capital?", expect="Paris")]
SAMPLES = [(Conversation.of(("system", "be kind"), ("user", "open?")), "at nine")]


def test_the_live_gate_gets_no_chat_that_it_cannot_ask_as_it_was_asked() -> None:
    tooled = Conversation(SAMPLES[0][0].messages, tools='[{"type": "function"}]')
    scores = scores_by_role(score(2.0, "Rome"), score(1.0, "Paris"), None)
    with_tools, without = (
        answers_side_by_side(QUESTIONS, [(chat, "at nine")], scores)[1] for chat in (tooled, SAMPLES[0][0])
    )
    assert with_tools.messages is None
    assert [turn.content for turn in without.messages or []] == ["be kind", "open?"]


@pytest.fixture
def resolved(tiny_model: Path, chats: Path) -> Resolved:
    recipe = f"{{name: tiny, model: '{tiny_model.as_uri()}', data: {{train: {chats}, max_tokens: 64}}}}"
    return resolve(PlanInput(recipe=recipe))


def score(loss: float, first_answer: str, rejected: list[float] | None = None) -> Score:
    return Score(
        nats=[10 * loss] * 40,
        labelled=[10] * 40,
        right=[5] * 40,
        answers=[first_answer, "at ten"],
        general=[True] * 8,
        rejected=rejected or [],
    )


def report_of(resolved: Resolved, base: Score, candidate: Score, champion: Champion | None = None) -> EvaluationReport:
    of_champion = champion.score if champion else None
    comparison = compare(base, candidate, of_champion, [], 2, [], 0.1)
    verdict = judge(Gate(), base, candidate, champion, comparison, QUESTIONS)
    scores = scores_by_role(base, candidate, of_champion)
    return make_report(
        resolved,
        Hardware(rung=resolved.quote.first, node="", since=0.0),
        scores,
        champion,
        comparison,
        verdict,
        answers_side_by_side(QUESTIONS, SAMPLES, scores),
        None,
        None,
        [SamplePiece(text="open?", learnt=False)],
    )


def test_a_new_report_has_the_keys_of_an_earlier_one_and_is_read_back(resolved: Resolved, tmp_path: Path) -> None:
    champion = Champion(2, score(1.5, "Rome"))
    report = report_of(resolved, score(2.0, "Rome"), score(1.0, "It is Paris."), champion)
    file = tmp_path / "report.json"
    write_report(report, file)
    assert read_report(file) == report
    written, earlier = json.loads(file.read_text()), json.loads((EARLIER / "schema_0_champion.json").read_text())
    assert list(written) == ["schema_version", *earlier]
    assert written["scores"].keys() == earlier["scores"].keys()
    assert written["scores"]["candidate"].keys() == earlier["scores"]["candidate"].keys()
    assert written["answers"] == [
        {
            "asked": "capital?",
            "messages": [{"role": "user", "content": "capital?"}],
            "wanted": "",
            "base": "Rome",
            "candidate": "It is Paris.",
            "champion": "Rome",
            "expect": "Paris",
            "candidate_meets": True,
        },
        {
            "asked": "open?",
            "messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "open?"}],
            "wanted": "at nine",
            "base": "at ten",
            "candidate": "at ten",
            "champion": "at ten",
        },
    ]


def test_without_a_champion_no_key_mentions_one(resolved: Resolved) -> None:
    report = report_of(resolved, score(2.0, "Rome"), score(1.0, "Paris"))
    assert report.champion_version == 0
    assert report.gains.champion is None
    assert set(report.scores) == set(report.rows) == {"base", "candidate"}
    assert "champion" not in json.loads(report.model_dump_json())["answers"][0]


def test_of_preference_pairs_the_candidate_has_an_accuracy_and_the_base_has_none(resolved: Resolved) -> None:
    report = report_of(resolved, score(2.0, "Rome", [20.0] * 40), score(1.0, "Paris", [30.0] * 40))
    assert report.scores["candidate"].preference_accuracy == 1.0
    assert report.scores["candidate"].pairs == 40
    assert report.scores["base"].pairs is None
    metrics = metrics_of(report)
    assert metrics["candidate/preference_accuracy"] == 1.0
    assert "base/preference_accuracy" not in metrics
    assert not {name for name in metrics if name.endswith(("/pairs", "/tokens"))}


def test_metrics_leave_out_the_open_ends_of_an_interval(resolved: Resolved) -> None:
    base, candidate = score(2.0, "Rome"), score(1.0, "Paris")
    one_row = {"nats": [10.0], "labelled": [10], "right": [5]}
    report = report_of(resolved, base.model_copy(update=one_row), candidate.model_copy(update=one_row))
    assert {name for name in metrics_of(report) if name.startswith("gain_over")} == {"gain_over_base/value"}
