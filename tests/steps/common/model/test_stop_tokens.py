"""Where an answer ends: at the tokenizer's end, at those of the generation config, and at the preset's end of a turn."""

from pathlib import Path
from typing import Any

import pytest

from steps.common.model.stop_tokens import published_stop_tokens, stop_tokens


@pytest.mark.parametrize(
    ("config", "found"),
    [('{"eos_token_id": [0, 2]}', [0, 2]), ('{"eos_token_id": 1}', [1]), ("{}", []), ("no JSON", []), ("[]", [])],
)
def test_the_generation_config_names_further_ends(tmp_path: Path, config: str, found: list[int]) -> None:
    assert published_stop_tokens(tmp_path) == []
    (tmp_path / "generation_config.json").write_text(config)
    assert published_stop_tokens(tmp_path) == found


def test_all_ends_count_once(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    assert (tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|endoftext|>")) == (2, 0)
    assert stop_tokens(tokenizer, None, "") == [2]
    assert stop_tokens(tokenizer, [1, 2], "<|endoftext|>") == [0, 1, 2]
    assert stop_tokens(tokenizer, 1, "<|no such token|>") == [1, 2]


def test_an_end_is_looked_up_without_the_whole_vocabulary(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoTokenizer

    def whole(self: Any) -> dict[str, int]:
        raise AssertionError("the whole vocabulary is built")

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    monkeypatch.setattr(type(tokenizer), "get_vocab", whole)
    for unknown in (None, "<|endoftext|>"):  # the token that stands for every text that is none
        tokenizer.unk_token = unknown
        assert stop_tokens(tokenizer, None, "<|endoftext|>") == [0, 2]
        assert stop_tokens(tokenizer, None, "<|no such token|>") == [2]
