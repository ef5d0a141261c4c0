"""Rows that are too long are counted in a sample, with the model's own tokenizer, before anything is bought."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from recipes.data import Data
from steps.common.handover.resolved import ResolvedChat
from steps.common.model.chat_template import ChatTemplate
from steps.common.rows.conversation import Conversation, Message, ToolCall
from steps.common.rows.row import Row
from steps.common.runtime.errors import UserError
from steps.plan.data.data_file import inspect_data
from steps.plan.lengths import row_lengths
from steps.plan.lengths.row_lengths import check_lengths, lengths
from steps.plan.lengths.template_renderer import read_renderer
from steps.plan.step import PlanInput, resolve


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    turns = [("cats?", "yes " * 100 if number % 4 == 0 else "yes") for number in range(40)]
    chats = [[{"role": "user", "content": asked}, {"role": "assistant", "content": said}] for asked, said in turns]
    file.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats))
    return file


def planned(model: str, rows: Path, **data: Any) -> None:
    recipe = {"name": "tiny", "model": model, "data": {"train": str(rows), "max_tokens": 64, **data}}
    resolve(PlanInput(recipe=json.dumps({**recipe, "serve": {"enabled": False}})))


def test_the_plan_says_how_many_rows_are_too_long_and_stops_if_the_recipe_does(
    tiny_model: Path, rows: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        UserError, match=r"data.max_tokens: 10 of 40 in a sample \(25.0%\); the longest has \d+ tokens, and"
    ):
        planned(tiny_model.as_uri(), rows)
    planned(tiny_model.as_uri(), rows, too_long="skip")
    assert "; 10 are left out" in capsys.readouterr().err
    planned(tiny_model.as_uri(), rows, max_tokens=512)
    assert "rows over data.max_tokens (512): none of 40 in a sample" in capsys.readouterr().err
    monkeypatch.setattr(row_lengths, "PACKAGES", ("a_package_that_is_not_there",))
    planned(tiny_model.as_uri(), rows)
    assert "since the Python package a_package_that_is_not_there is not installed here" in capsys.readouterr().err


def test_a_folder_with_a_space_in_its_name_has_a_tokenizer_too(
    tiny_model: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_model, tmp_path / "a model")
    planned((tmp_path / "a model").as_uri(), rows, max_tokens=512)
    assert "rows over data.max_tokens (512): none of 40 in a sample" in capsys.readouterr().err


def said(*answers: str) -> dict[str, object]:
    turns = [turn for answer in answers for turn in (("user", "cats?"), ("assistant", answer))]
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


LONG = "yes " * 100


@pytest.mark.parametrize(
    ("row", "more", "told"),
    [
        (said("yes", LONG), {}, "20 are cut between turns"),
        (said(LONG, "yes"), {}, "refused"),
        (said(LONG), {}, "refused"),
        (said(LONG), {"on_bad_row": "skip"}, "20 are left out"),
        ({"text": LONG}, {}, "refused"),
        ({"prompt": "cats?", "chosen": LONG, "rejected": "no"}, {"objective": "dpo"}, "refused"),
    ],
)
def test_what_cannot_be_cut_is_refused_where_it_would_stop_the_run(
    tiny_model: Path, tmp_path: Path, row: Any, more: dict[str, str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text((json.dumps(row) + "\n") * 20)
    objective = more.pop("objective", "sft")
    data = Data(train=str(file), max_tokens=64, too_long="cut", **more)
    assert inspect_data(data, objective)
    if told == "refused":
        with pytest.raises(UserError, match=r"data\.too_long=cut cannot shorten 20: plain"):
            check_lengths(data, [file], tiny_model.as_uri(), ResolvedChat())
    else:
        assert told in check_lengths(data, [file], tiny_model.as_uri(), ResolvedChat())


def copy_of(model: Path, folder: Path, **files: str) -> Path:
    shutil.copytree(model, folder)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"tokenizer__json": "{}"}, "the model's tokenizer cannot be read here: "),
        ({"tokenizer_config__json": "{"}, "the model's tokenizer cannot be read here: "),
        ({"tokenizer_config__json": "[]"}, "tokenizer_config.json is not a JSON object"),
        ({"chat_template__jinja": "{% if %}"}, "the model's chat template cannot be rendered here: "),
        ({"chat_template__jinja": "{{ raise_exception('no cats') }}"}, "cannot be rendered here: no cats"),
    ],
)
def test_a_tokenizer_that_cannot_be_used_here_is_said_and_stops_nothing(
    tiny_model: Path, tmp_path: Path, rows: Path, files: dict[str, str], why: str
) -> None:
    model = copy_of(tiny_model, tmp_path / "model", **files)
    line = check_lengths(Data(train=str(rows), max_tokens=64), [rows], model.as_uri(), ResolvedChat())
    assert line.startswith("rows over data.max_tokens (64): not counted, since ")
    assert why in line
    assert "never cut" not in line
    cut = Data(train=str(rows), too_long="cut")
    assert "plain texts and pairs are never cut" in check_lengths(cut, [rows], model.as_uri(), ResolvedChat())
    assert "\n" not in line


def test_rows_that_the_template_refuses_are_counted_apart(tiny_model: Path, tmp_path: Path) -> None:
    template = "{{ raise_exception('no') if messages[0].content == 'dogs?' else messages[1].content }}"
    model = copy_of(tiny_model, tmp_path / "model", chat_template__jinja=template)
    file = tmp_path / "rows.jsonl"
    chats = [json.dumps(said("yes")).replace("cats", word) for word in ("cats", "dogs", "dogs", "cows")]
    file.write_text("\n".join(chats) + "\n")
    line = check_lengths(Data(train=str(file)), [file], model.as_uri(), ResolvedChat())
    assert "none of 2 in a sample" in line
    assert line.endswith("; 2 could not be rendered")


CALLS = Conversation(
    (
        Message("user", "cats?"),
        Message("assistant", tool_calls=(ToolCall("count", '{"of": "käts"}'),)),
        Message("tool", "3", name="count"),
        Message("assistant", "three"),
    )
)


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m.role }}: {% generation %}{{ m.content }}{% endgeneration %}\n{% endfor %}",
        "{% for m in messages %}{% if m.tool_calls %}{{ m.tool_calls | tojson(indent=2, sort_keys=true) }}{% endif %}"
        "{% endfor %}",
        "{% for m in messages %}{% if m.tool_calls %}{{ m.tool_calls | tojson(ensure_ascii=true, separators=(',', ':')) }}"
        "{% endif %}{% endfor %}",
        "{{ strftime_now('%Y') }}{{ bos_token }}{{ messages[0].content }}{{ sep_token }}",
        "{% for m in messages if m.tool_calls %}{{ m.tool_calls[0].id }}{% endfor %}{{ messages[2].tool_call_id }}",
        "{% for m in messages if m.tool_calls %}{{ 'calls ' + m.tool_calls[0].function.arguments }}{% endfor %}",
    ],
)
def test_a_template_is_rendered_as_transformers_does(tiny_model: Path, tmp_path: Path, template: str) -> None:
    from transformers import AutoTokenizer

    model = copy_of(tiny_model, tmp_path / "model", chat_template__jinja=template)
    wanted, found = ChatTemplate(AutoTokenizer.from_pretrained(model)), ChatTemplate(read_renderer(model))
    assert found.exists
    assert found.render(found.messages(CALLS), CALLS, asking=False) == wanted.render(
        wanted.messages(CALLS), CALLS, asking=False
    )


def test_a_length_is_that_of_the_rendered_row(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    chats = [Conversation.of(("user", "cats?"), ("assistant", "yes " * number)) for number in (1, 9)]
    found = lengths([Row(chat) for chat in chats], tiny_model, 20, ResolvedChat())
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    wanted = [len(tokenizer.apply_chat_template(chat.for_template())["input_ids"]) for chat in chats]
    assert (found.rows, found.longest, found.too_long) == (2, max(wanted), sum(one > 20 for one in wanted))
