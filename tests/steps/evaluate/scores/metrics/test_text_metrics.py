"""The metrics of texts."""

from typing import Any

import pytest

from steps.evaluate.scores.metrics.text_metrics import contains, exact, rouge_l


@pytest.mark.parametrize(
    ("metric", "answer", "reference", "value"),
    [
        (exact, " The CAPITAL, of France: Paris. ", "the capital of france paris", 1),
        (exact, "Paris, France", "Paris", 0),
        (contains, "It is Paris, of course.", "paris", 1),
        (contains, "It is Parisian.", "Paris", 0),
        (rouge_l, "the cat sat on the mat", "the cat is on the mat", 5 / 6),
        (rouge_l, "Привет, мир", "привет мир", 1),
        (rouge_l, "我喜欢猫", "我喜欢狗", 3 / 4),
        (rouge_l, "नमस्ते दुनिया", "नमस्ते", 2 / 3),
        (rouge_l, "", "something", 0),
    ],
)
def test_answers_are_compared_with_references(metric: Any, answer: str, reference: str, value: float) -> None:
    assert metric(answer, reference) == pytest.approx(value)
