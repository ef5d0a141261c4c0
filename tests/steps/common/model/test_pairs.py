"""Preference pairs as tokens: both sides have the same prompt, and only the two answers are scored."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.cluster.transfer.send_data import STORE_SETTING, with_data_in_reach
from recipes.data import Data
from recipes.reader import load
from steps.common.model.packs import IGNORE_INDEX, pack
from steps.common.model.pair_packs import TokenPair
from steps.common.rows.conversation import Conversation, Message
from steps.common.rows.row import Row
from steps.common.runtime.errors import UserError
from steps.plan.data.data_file import inspect_data
from steps.prepare.label_pairs import labelled_examples
from steps.prepare.labels import Example, Labeller
from steps.prepare.learnt_turns import LabelError
from tests.conftest import write_chats
from tests.support.pairs import token_pair, write_pairs

PAIR = Row(
    Conversation.of(("user", "cats?"), ("assistant", "yes cats"), ("user", "dogs?"), ("assistant", "no")),
    rejected=Message("assistant", "yes dogs"),
)


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


def labelled_text(side: Example, tokenizer: Any) -> str:
    return str(tokenizer.decode([label for label in side.labels if label != IGNORE_INDEX]))


def pair_of(row: Row, tokenizer: Any, max_tokens: int = 512) -> tuple[Example, Example]:
    (found,) = labelled_examples(row, Labeller(tokenizer, max_tokens))
    assert found.rejected
    return found, found.rejected


def test_both_sides_have_the_prompt_and_only_the_last_answer_is_scored(tokenizer: Any) -> None:
    found, rejected = pair_of(PAIR, tokenizer)
    assert labelled_text(found, tokenizer) == "no<|im_end|>"
    assert labelled_text(rejected, tokenizer) == "yes dogs<|im_end|>"
    prompt = found.labels.index(next(label for label in found.labels if label != IGNORE_INDEX))
    assert found.input_ids[:prompt] == rejected.input_ids[:prompt]
    assert found.tokens + rejected.tokens == len(found.input_ids) + len(rejected.input_ids)


def test_without_a_chat_template_the_texts_are_concatenated(tokenizer: Any) -> None:
    from copy import deepcopy

    plain = deepcopy(tokenizer)
    plain.chat_template = None
    found, rejected = pair_of(PAIR, plain)
    assert labelled_text(found, tokenizer) == "no<|im_end|>"
    assert labelled_text(rejected, tokenizer) == "yes dogs<|im_end|>"


def test_a_side_that_is_too_long_is_named(tokenizer: Any) -> None:
    with pytest.raises(LabelError, match=r"with its rejected answer, is \d+ tokens long, over"):
        labelled_examples(Row(PAIR.conversation, rejected=Message("assistant", "dogs " * 100)), Labeller(tokenizer, 64))


def test_answers_that_a_template_makes_identical_are_refused(tokenizer: Any) -> None:
    from copy import deepcopy

    short = deepcopy(tokenizer)
    short.chat_template = tokenizer.chat_template.replace("message['content'] }}", "message['content'][:2] }}")
    with pytest.raises(LabelError, match="removes the difference between its answers"):
        labelled_examples(Row(PAIR.conversation, rejected=Message("assistant", "nobody")), Labeller(short, 512))


def test_a_pair_is_never_split_between_packs() -> None:
    pairs = [token_pair(number, [5, 6], [7] * number, [8] * 3) for number in range(1, 8)]
    packs: list[list[TokenPair]] = list(pack(pairs, 24))
    assert sorted(pair.number for one in packs for pair in one) == list(range(1, 8))
    assert all(sum(len(side.input_ids) for pair in one for side in pair.sides) <= 24 for one in packs)


def test_the_form_of_the_data_has_to_match_the_objective(tmp_path: Path) -> None:
    pairs, chats = write_pairs(tmp_path / "pairs.jsonl"), write_chats(tmp_path / "chats.jsonl")
    with pytest.raises(UserError, match=r"pairs.jsonl:1: has a chosen and a rejected answer; set tune.objective=dpo"):
        inspect_data(Data(train=str(pairs)), "sft")
    with pytest.raises(
        UserError, match=r"chats.jsonl:1: is not a pair, and tune.objective is dpo; set tune.objective=sft"
    ):
        inspect_data(Data(train=str(chats), on_bad_row="skip"), "dpo")


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_the_size_of_a_large_file_is_estimated_from_a_sample(tmp_path: Path, kind: str) -> None:
    import json

    from pyarrow import Table, csv, parquet

    rows = write_pairs(tmp_path / "rows.jsonl", 5000)
    columns = Table.from_pylist([json.loads(line) for line in rows.read_text().splitlines()])
    if kind == "csv":
        csv.write_csv(columns, tmp_path / "rows.csv")
    elif kind == "parquet":
        parquet.write_table(columns, tmp_path / "rows.parquet")
    few = inspect_data(Data(train=str(write_pairs(tmp_path / "few.jsonl", 1000)), validation_share=0.5), "dpo")
    many = inspect_data(Data(train=str(tmp_path / f"rows.{kind}"), validation_share=0.5), "dpo")
    assert few
    assert many
    assert many.train.rows == pytest.approx(2500, rel=0.02)
    assert many.train.tokens == pytest.approx(5 * few.train.tokens, rel=0.05)


def test_local_pairs_are_sent_to_a_cluster_if_the_objective_is_dpo(tmp_path: Path, bucket: Any) -> None:
    settings = SimpleNamespace(data={STORE_SETTING: "s3://chats/sent"})
    connection: Any = SimpleNamespace(
        namespace="fineline", core=SimpleNamespace(read_namespaced_config_map=lambda *_: settings)
    )
    pairs = write_pairs(tmp_path / "pairs.jsonl", 4)
    changes = {"data.train": str(pairs), "data.validation": ""}
    sent = with_data_in_reach(connection, load("pet-store", {**changes, "tune.objective": "dpo"}))
    assert str(sent.data.train).startswith("s3://chats/sent/")
    with pytest.raises(UserError, match=r"set tune\.objective=dpo"):
        with_data_in_reach(connection, load("pet-store", changes))
