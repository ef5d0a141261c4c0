"""A score is cached under everything that it depends on."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import steps.evaluate.step
from steps.common.handover.resolved import ResolvedChat
from steps.evaluate.scores.score import EvaluationSet, Score
from steps.evaluate.step import EvaluateInput


def test_another_way_of_asking_is_scored_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    scored: list[ResolvedChat] = []

    def score(folder: Path, evaluation: EvaluationSet, *_: Any, **__: Any) -> Score:
        scored.append(evaluation.chat)
        return Score(nats=[1.0], right=[1], labelled=[1], answers=[])

    monkeypatch.setattr(steps.evaluate.step, "score", score)
    rung = SimpleNamespace(
        evaluated_in_4_bits=False, micro_batch_tokens=1, sharded=False, device=SimpleNamespace(kind="cpu", count=1)
    )
    resolved = SimpleNamespace(model=SimpleNamespace(digest="base"), serving_plan=SimpleNamespace(form="merged"))
    given: dict[str, Any] = {
        "resolved": resolved,
        "hardware": SimpleNamespace(rung=rung),
        "base_folder": str(tmp_path),
        "rows_digest": "rows",
    }
    input = EvaluateInput.model_construct(**given)
    ways = [ResolvedChat(), ResolvedChat(end_of_turn="<end>"), ResolvedChat(template_arguments={"brief": True})]
    for way in [*ways, *ways]:
        steps.evaluate.step._scorer(input, EvaluationSet([], [], 8, False, chat=way))("base", None)
    assert scored == ways
