"""Bodies of requests: what transformers cannot use is left out or refused before it sees it."""

from typing import Any

import pytest

from steps.rollout.server.request_body import BodyError, ChatBody, checked

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}


def test_arguments_of_the_template_that_are_null_or_empty_count_as_absent() -> None:
    absent: list[Any] = [None, {}]
    for given in absent:
        assert "chat_template_kwargs" not in checked(ChatBody, {**CHAT, "chat_template_kwargs": given})
    assert checked(ChatBody, {**CHAT, "chat_template_kwargs": {"a": False}})["chat_template_kwargs"] == {"a": False}


@pytest.mark.parametrize("given", ["x", 1, True, ["a"], [["a", 1]]])
def test_arguments_of_the_template_that_are_no_object_are_refused_in_one_line(given: Any) -> None:
    with pytest.raises(BodyError, match=r"^chat_template_kwargs: input should be a valid dictionary$"):
        checked(ChatBody, {**CHAT, "chat_template_kwargs": given})
