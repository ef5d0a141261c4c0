"""Thoughts in what a model writes."""

import pytest

from steps.common.rows.cells.columns import FormError
from steps.common.rows.cells.thought_marks import behind_thought, closes_thought, opens_thought, split_thoughts


@pytest.mark.parametrize(
    ("text", "opened", "answer"),
    [
        ("yes", False, "yes"),
        ("<think>\nwe have\n</think>\n\nyes", False, "yes"),
        ("we have\n</think>\n\nyes", True, "yes"),
        ("we have\n</think>\n\nyes", False, "yes"),
        ("write </think> behind it", False, "write </think> behind it"),
        ("so it is </think> yes", True, "yes"),
        ("[THINK]we have[/THINK]yes", False, "yes"),
        ("<think>\nwe have", False, ""),
        ("we have", True, ""),
        ("", False, ""),
        ("write <think> first", False, "write <think> first"),
    ],
)
def test_the_answer_is_what_follows_a_thought_that_ends(text: str, opened: bool, answer: str) -> None:
    assert behind_thought(text, opened=opened) == answer


def test_a_thought_is_split_off_with_its_marks() -> None:
    assert split_thoughts("<think>\nwe have\n</think>\n\nyes", "it") == ("we have", "yes")
    assert split_thoughts("yes </think>\nno", "it") == ("yes", "no")  # the prompt may have opened it
    for spoken_of in ("yes </think> no", "yes <think> no </think>", "yes <think> no"):
        assert split_thoughts(spoken_of, "it") == ("", spoken_of)


def test_a_thought_that_does_not_end_is_refused() -> None:
    with pytest.raises(FormError, match=r"^it has a thought that does not end: \[THINK\] without \[/THINK\]$"):
        split_thoughts(" [THINK]we have", "it")


def test_a_prompt_may_end_inside_a_thought_or_behind_one() -> None:
    assert [opens_thought(end) for end in ("a<think>\n", "a<think>\n\n</think>\n\n", "a")] == [True, False, False]
    assert [closes_thought(end) for end in ("a<think>\n", "a<think>\n\n</think>\n\n", "a")] == [False, True, False]
