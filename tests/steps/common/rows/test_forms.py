"""Forms: each is recognised by its columns, and every column of a row is used, refused, or named as ignored."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from steps.common.rows.conversation import Conversation, Message, ToolCall
from steps.common.rows.forms import FormError, to_row
from steps.common.rows.row import Row

USER, ANSWER = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}
CHAT = (Message("user", "hi"), Message("assistant", "hello"))
TOOL = {"name": "stock", "description": "of an article", "parameters": {"type": "object", "properties": {}}}
TOOLS = json.dumps([{"type": "function", "function": TOOL}])
CALL = ToolCall("stock", '{"article": "rope"}')
CALLED = (
    Message("user", "any rope?"),
    Message("assistant", tool_calls=(CALL,)),
    Message("tool", "12 m", name="stock"),
    Message("assistant", "Yes, 12 m."),
)
ASKED = {"role": "user", "content": "any rope?"}
SAID = {"role": "assistant", "content": "Yes, 12 m."}
OPENAI_CALL = {"id": "c1", "type": "function", "function": {"name": "stock", "arguments": '{"article":"rope"}'}}


def chat(*messages: Message, **others: Any) -> Row:
    return Row(Conversation(messages, **others))


def messages(*turns: dict[str, Any], **columns: Any) -> dict[str, Any]:
    return {"messages": list(turns), **columns}


def sharegpt(*turns: tuple[str, str], **columns: Any) -> dict[str, Any]:
    return {"conversations": [{"from": role, "value": text} for role, text in turns], **columns}


def system(text: str) -> Message:
    return Message("system", text)


CALLS: list[dict[str, Any]] = [
    messages(
        ASKED,
        {"role": "assistant", "content": None, "tool_calls": [OPENAI_CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "12 m"},
        SAID,
    ),
    # A tool's result without a name and an id is that of the next call
    messages(ASKED, {"role": "assistant", "tool_calls": [OPENAI_CALL]}, {"role": "tool", "content": "12 m"}, SAID),
    # Arguments and the whole call as objects, and nulls that Arrow fills in
    messages(
        ASKED,
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": {"name": "stock", "arguments": {"article": "rope", "colour": None}}}],
        },
        {"role": "tool", "name": "stock", "content": "12 m", "tool_calls": None},
        SAID,
    ),
    messages(
        ASKED,
        {"role": "assistant", "tool_calls": json.dumps([{"name": "stock", "arguments": {"article": "rope"}}])},
        {"role": "tool", "name": "stock", "content": [{"type": "text", "text": "12 m"}]},
        SAID,
    ),
    messages(
        ASKED,
        {"role": "assistant", "content": None, "function_call": {"name": "stock", "arguments": '{"article": "rope"}'}},
        {"role": "function", "name": "stock", "content": "12 m"},
        SAID,
    ),
    sharegpt(
        ("human", "any rope?"),
        ("function_call", '{"name": "stock", "arguments": {"article": "rope"}}'),
        ("observation", "12 m"),
        ("gpt", "Yes, 12 m."),
    ),
    sharegpt(
        ("human", "any rope?"),
        ("function_call", '[{"name": "stock", "arguments": "{\\"article\\": \\"rope\\"}"}]'),
        ("observation", "12 m"),
        ("gpt", "Yes, 12 m."),
    ),
    messages(
        ASKED,
        {"role": "tool_call", "content": '{"name": "stock", "parameters": {"article": "rope"}}'},
        {"role": "tool_response", "content": "12 m"},
        SAID,
    ),
]


@pytest.mark.parametrize("columns", CALLS)
def test_calls_of_tools_in_every_notation(columns: dict[str, Any]) -> None:
    row = to_row(columns)
    assert row == chat(*CALLED)
    assert row.ignored == ()


def test_calls_from_one_table_whose_objects_have_each_others_keys() -> None:
    other = {"function": {"name": "price", "arguments": {"currency": "EUR"}}}
    rows = [CALLS[2], messages(ASKED, {"role": "assistant", "content": "", "tool_calls": [other]}, system="be brief")]
    table = pa.Table.from_pylist([{**dict.fromkeys(("messages", "system", "text")), **row} for row in rows]).to_pylist()
    assert table[0]["messages"][1]["tool_calls"][0]["function"]["arguments"]["currency"] is None
    first, second = (to_row(row) for row in table)
    assert first == chat(*CALLED)
    assert second == chat(
        system("be brief"), CALLED[0], Message("assistant", tool_calls=(ToolCall("price", '{"currency": "EUR"}'),))
    )
    assert first.ignored == second.ignored == ()


def test_calls_at_once_are_one_turn_and_their_results_are_told_apart() -> None:
    calls = [
        {**OPENAI_CALL, "id": "a"},
        {"id": "b", "type": "function", "function": {"name": "price", "arguments": {}}},
    ]
    results: list[dict[str, Any]] = [
        {"role": "tool", "tool_call_id": "b", "content": {"eur": 3}},
        {"role": "tool", "tool_call_id": "a", "content": "12 m"},
    ]
    expected = (
        CALLED[0],
        Message("assistant", "Let me see.", tool_calls=(CALL, ToolCall("price"))),
        Message("tool", "12 m", name="stock"),  # the results are in the order of the calls
        Message("tool", '{"eur": 3}', name="price"),
        CALLED[-1],
    )
    openai = messages(ASKED, {"role": "assistant", "content": "Let me see.", "tool_calls": calls}, *results, SAID)
    assert to_row(openai) == chat(*expected)
    turns = [
        ("function_call", '{"name": "stock", "arguments": {"article": "rope"}}'),
        ("function_call", '{"name": "price"}'),
    ]
    shared = sharegpt(
        ("human", "any rope?"),
        ("gpt", "Let me see."),
        *turns,
        ("observation", "12 m"),
        ("observation", '{"eur": 3}'),
        ("gpt", "Yes, 12 m."),
    )
    assert to_row(shared) == chat(*expected)
    named: list[dict[str, Any]] = [
        {"role": "tool", "name": "price", "content": {"eur": 3}},
        {"role": "tool", "name": "stock", "content": "12 m"},
    ]
    assert to_row(messages(*openai["messages"][:2], *named, SAID)) == chat(*expected)
    unknown = [*results, {"role": "tool", "tool_call_id": "c", "content": "?"}]
    row = to_row(messages(*openai["messages"][:2], *unknown, SAID))
    assert row == chat(*expected[:4], Message("tool", "?"), CALLED[-1])
    # A call without a result is not answered by that of a later turn
    twice: list[dict[str, Any]] = [*openai["messages"][1:3], *CALLS[1]["messages"][1:]]
    assert to_row(messages(ASKED, *twice)) == chat(*expected[:2], expected[3], *CALLED[1:])


@pytest.mark.parametrize(
    "columns",
    [
        {"tools": [{"type": "function", "function": TOOL}]},
        {"tools": TOOLS},
        {"tools": json.dumps([TOOL])},
        {"tools": [json.dumps(TOOL)]},
        {"functions": [TOOL]},
        {"tools": [], "functions": [TOOL]},
        {"tools": [{**TOOL, "parameters": {"type": "object", "properties": {"of_other_tools": None}}}]},
    ],
)
@pytest.mark.parametrize(
    "form",
    [
        messages(USER, ANSWER),
        sharegpt(("human", "hi"), ("gpt", "hello")),
        {"prompt": [USER], "completion": [ANSWER]},
        {"instruction": "hi", "output": "hello"},
    ],
)
def test_tools_stand_beside_every_conversation(form: dict[str, Any], columns: dict[str, Any]) -> None:
    row = to_row({**form, **columns})
    assert row == chat(*CHAT, tools=TOOLS)
    assert row.ignored == ()


@pytest.mark.parametrize(
    "columns",
    [
        messages({"role": "system", "content": "be brief"}, USER, ANSWER),
        messages({"role": "developer", "content": "be brief"}, USER, ANSWER),
        messages(USER, ANSWER, system="be brief"),
        messages(USER, ANSWER, system=[{"text": "be brief"}]),
        messages({"role": "system", "content": "be brief"}, USER, ANSWER, system="be brief"),
        messages({"role": "system", "content": ""}, USER, ANSWER, system_prompt="be brief"),
        sharegpt(("human", "hi"), ("gpt", "hello"), system="be brief"),
        sharegpt(("system", "be brief"), ("human", "hi"), ("gpt", "hello"), system=""),
        {"system": "be brief", "conversations": {"from": ["human", "gpt"], "value": ["hi", "hello"], "weight": None}},
        {"system": "be brief", "conversation": [{"human": "hi", "assistant": "hello"}]},
        {"system": "be brief", "conversations": json.dumps([USER, ANSWER])},
        {"system": "be brief", "prompt": "hi", "completion": "hello"},
        {"system": "be brief", "prompt": [USER], "completion": [ANSWER]},
        {"system_prompt": "be brief", "question": "hi", "response": "hello"},
        {"system": "be brief", "instruction": "hi", "input": "", "output": "hello", "history": []},
    ],
)
def test_the_system_message_stands_in_front(columns: dict[str, Any]) -> None:
    row = to_row(columns)
    assert row == chat(system("be brief"), *CHAT)
    assert row.ignored == ()


@pytest.mark.parametrize("empty", ["", None, " \n", []])
def test_an_empty_system_message_is_none(empty: Any) -> None:
    assert to_row(messages({"role": "system", "content": empty}, USER, ANSWER)) == chat(*CHAT)
    assert to_row(messages(USER, ANSWER, system=empty)) == chat(*CHAT)


@pytest.mark.parametrize(
    ("columns", "asked"),
    [
        (
            {"instruction": "Who?", "context": "It was Ada.", "response": "hello", "category": "qa"},
            "Who?\n\nIt was Ada.",
        ),
        ({"instruction": "Sum up.", "input": "A text.", "output": "hello", "category": "qa"}, "Sum up.\n\nA text."),
        ({"instruction": "Answer.", "question": "Who?", "answer": "hello", "category": "qa"}, "Answer.\n\nWho?"),
        (
            {"question": "Who?", "context": ["It was Ada.", "Not Bob."], "answer": "hello", "category": "qa"},
            "Who?\n\nIt was Ada.\n\nNot Bob.",
        ),
        ({"query": "Who?", "response": "hello", "category": "qa"}, "Who?"),
        ({"prompt": "Who?", "response": "hello", "category": "qa"}, "Who?"),
        ({"prompt": "Who?", "context": "It was Ada.", "completion": "hello", "category": "qa"}, "Who?\n\nIt was Ada."),
        ({"input": "Who?", "output": "hello", "category": "qa"}, "Who?"),
        ({"Question": "Who?", "Response": "hello", "category": "qa"}, "Who?"),
        # `prompt` and `text` repeat the row, rendered
        ({"instruction": "Who?", "output": "hello", "prompt": "### Who?", "text": "### Who? hello"}, "Who?"),
    ],
)
def test_a_question_with_all_that_belongs_to_it(columns: dict[str, Any], asked: str) -> None:
    row = to_row(columns)
    assert row == chat(Message("user", asked), CHAT[1])
    assert row.ignored == (("category",) if "category" in columns else ("prompt", "text"))


@pytest.mark.parametrize(
    "history",
    [
        [["one", "two"]],
        json.dumps([["one", "two"]]),
        [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}],
        [["one", None], ["", "two"]],
    ],
)
@pytest.mark.parametrize("question", ["instruction", "query", "prompt"])
def test_earlier_turns_stand_before_the_question(history: Any, question: str) -> None:
    row = to_row({question: "hi", "response": "hello", "history": history})
    assert row == chat(Message("user", "one"), Message("assistant", "two"), *CHAT)
    assert row.ignored == ()


THOUGHT = replace(CHAT[1], thinking="a greeting")


@pytest.mark.parametrize(
    "answer",
    [
        {"content": "<think>\na greeting\n</think>\n\nhello"},
        {"content": "\n<think>a greeting</think>hello"},
        {"content": "a greeting\n</think>\n\nhello"},  # the mark in front belongs to the prompt of some models
        {"content": "[THINK]a greeting[/THINK]hello"},
        {"content": "hello", "reasoning_content": "a greeting"},
        {"content": "hello", "reasoning": "a greeting\n", "reasoning_content": None},
        {"content": "hello", "thinking": "a greeting"},
        {"content": "<think>a greeting</think>\nhello", "reasoning_content": "a greeting"},
        {"content": [{"type": "thinking", "thinking": "a greeting"}, {"type": "text", "text": "hello"}]},
    ],
)
def test_thoughts_are_told_from_the_answer(answer: dict[str, Any]) -> None:
    row = to_row(messages(USER, {"role": "assistant", **answer}))
    assert row == chat(CHAT[0], THOUGHT)
    assert row.ignored == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<think>\n\n</think>\n\nhello", CHAT[1]),
        ("hello <think>", Message("assistant", "hello <think>")),
        ("The marks are <think> and </think>.", Message("assistant", "The marks are <think> and </think>.")),
        ("<think>one <think>two</think> three", Message("assistant", "<think>one <think>two</think> three")),
        ("Write </think> behind the thought.", Message("assistant", "Write </think> behind the thought.")),
        ("one</think>two</think>three", Message("assistant", "one</think>two</think>three")),
        ("<think>a greeting</think>  hello\n", replace(THOUGHT, content="  hello\n")),
    ],
)
def test_only_marks_in_front_of_an_answer_hold_thoughts(text: str, message: Message) -> None:
    assert to_row(messages(USER, {"role": "assistant", "content": text})) == chat(CHAT[0], message)
    assert to_row({"prompt": "hi", "completion": text}) == chat(CHAT[0], message)
    marked = messages({"role": "user", "content": "<think>a</think>b"}, ANSWER)
    assert to_row(marked) == chat(Message("user", "<think>a</think>b"), CHAT[1])


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking", "Complex_CoT"])
def test_thoughts_have_a_column(name: str) -> None:
    row = to_row({"question": "hi", "answer": "hello", name: "a greeting"})
    assert row == chat(CHAT[0], THOUGHT)
    assert row.ignored == ()


def test_thoughts_before_a_call_belong_to_it() -> None:
    row = to_row(
        sharegpt(
            ("human", "any rope?"),
            ("function_call", '<think>look</think>\n{"name": "stock", "arguments": {"article": "rope"}}'),
        )
    )
    assert row == chat(CALLED[0], replace(CALLED[1], thinking="look"))


@pytest.mark.parametrize(
    "mark", [{"weight": 0}, {"weight": 0.0}, {"train": False}, {"training": False}, {"loss": False}, {"loss": 0}]
)
@pytest.mark.parametrize("kept", [{"weight": 1}, {"train": True}, {"weight": 1.0, "loss": True}, {"weight": None}, {}])
def test_an_answer_with_the_weight_0_is_read_and_not_learnt(mark: dict[str, Any], kept: dict[str, Any]) -> None:
    wrong = {"role": "assistant", "content": "go away", **mark}
    row = to_row(messages({**USER, "weight": 0}, wrong, USER, {**ANSWER, **kept}))
    assert row == chat(CHAT[0], Message("assistant", "go away", learnt=False), *CHAT)
    assert row.ignored == ()


def test_what_follows_the_last_learnt_answer_is_ignored_by_name() -> None:
    bad = {"role": "assistant", "content": "go away", "weight": 0}
    for turns in ([USER], [USER, bad], [bad]):
        row = to_row(messages(USER, ANSWER, *turns))
        assert row == chat(*CHAT)
        assert row.ignored == ("messages[] after the last one learned",)


def test_only_the_completion_is_learnt_of_a_prompt_in_messages() -> None:
    row = to_row({"prompt": [USER, {"role": "assistant", "content": "example"}, USER], "completion": [ANSWER]})
    assert row == chat(CHAT[0], Message("assistant", "example", learnt=False), *CHAT)
    assert to_row({"prompt": [USER], "completion": "hello"}) == chat(*CHAT)


@pytest.mark.parametrize("name", ["tools", "functions", "documents", "history"])
@pytest.mark.parametrize("value", ["[]", "null", "", " [ ] ", "{}", '""'])
def test_an_empty_value_written_as_json_is_none(name: str, value: str) -> None:
    assert to_row({"query": "hi", "response": "hello", name: value}) == chat(*CHAT)
    other = {"functions": [TOOL]} if name == "tools" else {}
    row = to_row({"query": "hi", "response": "hello", name: value, **other})
    assert row == chat(*CHAT, tools=TOOLS if other else "")
    assert row.ignored == ()
    assert to_row(messages(USER, {**ANSWER, "tool_calls": value})) == chat(*CHAT)


@pytest.mark.parametrize(
    "said",
    ['{"from": "Berlin", "to": "Paris"}', '{"role":"admin"}', '[{"role": "admin", "content": "all"}]', '{"role": 1}'],
)
def test_an_answer_that_is_json_is_a_text_unless_it_is_messages(said: str) -> None:
    assert to_row({"prompt": "hi", "completion": said}) == chat(CHAT[0], Message("assistant", said))
    assert to_row({"prompt": "hi", "chosen": said, "rejected": "what"}).conversation == Conversation(
        (CHAT[0], Message("assistant", said))
    )
    for written in ([ANSWER], [{"from": "gpt", "value": "hello"}], ANSWER):
        assert to_row({"prompt": "hi", "completion": json.dumps(written)}) == chat(*CHAT)


@pytest.mark.parametrize(
    "turns",
    [
        [ANSWER, USER, ANSWER],
        [USER, USER, ANSWER],
        [USER, ANSWER, ANSWER],
        [ANSWER],
        [USER, {"role": "system", "content": "now in French"}, ANSWER],
    ],
)
def test_the_template_judges_the_order_of_turns(turns: list[dict[str, Any]]) -> None:
    row = to_row(messages(*turns))
    assert row.conversation == Conversation.of(*((turn["role"], turn["content"]) for turn in turns))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b", "image_url": None}], "a\nb"),
        ([{"type": "input_text", "text": "a"}, "b"], "a\nb"),
        ([{"text": "a"}], "a"),
    ],
)
def test_content_in_parts(content: Any, text: str) -> None:
    assert to_row(messages({"role": "user", "content": content}, ANSWER)) == chat(Message("user", text), CHAT[1])


def test_a_refusal_is_an_answer() -> None:
    refused = Message("assistant", "I cannot.")
    for answer in (
        {"content": None, "refusal": "I cannot."},
        {"content": [{"type": "refusal", "refusal": "I cannot."}]},
    ):
        row = to_row(messages(USER, {"role": "assistant", **answer}))
        assert row == chat(CHAT[0], refused)
        assert row.ignored == ()


@pytest.mark.parametrize("documents", [[{"title": "A", "text": "b", "url": None}], '[{"title": "A", "text": "b"}]'])
def test_documents_go_to_the_template(documents: Any) -> None:
    expected = chat(*CHAT, documents='[{"title": "A", "text": "b"}]')
    assert to_row(messages(USER, ANSWER, documents=documents)) == expected
    assert to_row({"question": "hi", "answer": "hello", "documents": documents}) == expected


def test_the_calls_that_answer_a_query_are_a_column() -> None:
    row = to_row(
        {
            "id": 7,
            "query": "any rope?",
            "answers": json.dumps([{"name": "stock", "arguments": {"article": "rope"}}]),
            "tools": json.dumps([TOOL]),
        }
    )
    assert row == chat(*CALLED[:2], tools=TOOLS)
    assert row.ignored == ("id",)


PAIR = Row(Conversation(CHAT), rejected=Message("assistant", "what"))
WORSE = {"role": "assistant", "content": "what"}


@pytest.mark.parametrize(
    "columns",
    [
        {"input": {"messages": [USER]}, "preferred_output": [ANSWER], "non_preferred_output": [WORSE]},
        {
            "input": json.dumps({"messages": [USER]}),
            "preferred_output": json.dumps([ANSWER]),
            "non_preferred_output": json.dumps([WORSE]),
        },
        {"prompt": [USER], "chosen": ANSWER, "rejected": WORSE},
        {"prompt": "hi", "chosen": [ANSWER], "rejected": [WORSE]},
        {"instruction": "hi", "input": "", "chosen": "hello", "rejected": "what"},
        {
            "conversations": [{"from": "human", "value": "hi"}],
            "chosen": {"from": "gpt", "value": "hello"},
            "rejected": {"from": "gpt", "value": "what"},
        },
        messages(USER, chosen="hello", rejected="what"),
        messages(USER, ANSWER, rejected_response="what"),
        messages(USER, ANSWER, rejected_response=[WORSE]),
        messages(USER, ANSWER, rejected_messages=[USER, WORSE]),
        {"chosen": [USER, ANSWER], "rejected": [USER, WORSE], "prompt": None},
    ],
)
def test_pairs(columns: dict[str, Any]) -> None:
    row = to_row(columns)
    assert row == PAIR
    assert row.ignored == ()


def test_pairs_with_all_that_stands_beside_them() -> None:
    beside = {"tools": [TOOL], "system": "be brief"}
    expected = Row(Conversation((system("be brief"), *CHAT), TOOLS), rejected=PAIR.rejected)
    assert to_row({"prompt": [USER], "chosen": [ANSWER], "rejected": [WORSE], **beside}) == expected
    assert to_row({"chosen": [USER, ANSWER], "rejected": [USER, WORSE], **beside}) == expected
    openai = {
        "input": {
            "messages": [{"role": "developer", "content": "be brief"}, USER],
            "tools": [TOOL],
            "parallel_tool_calls": True,
        }
    }
    row = to_row({**openai, "preferred_output": [ANSWER], "non_preferred_output": [WORSE], "source": "a"})
    assert row == expected
    assert row.ignored == ("input.parallel_tool_calls", "source")


def test_a_call_is_preferred_to_an_answer() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [OPENAI_CALL]}
    row = to_row({"prompt": [ASKED], "chosen": [call], "rejected": [SAID]})
    assert row == Row(Conversation(CALLED[:2]), rejected=CALLED[-1])


@pytest.mark.parametrize(
    ("columns", "ignored"),
    [
        (
            messages(
                {**USER, "name": "Ann"},
                {**ANSWER, "score": 2, "audio": None},
                id=3,
                parallel_tool_calls=False,
                tags=[],
                note=None,
            ),
            ("messages[].name", "messages[].score", "id", "parallel_tool_calls"),
        ),
        (sharegpt(("human", "hi"), ("gpt", "hello"), source="web"), ("source",)),
        ({"prompt": "hi", "completion": "hello", "label": 1}, ("label",)),
        (messages(USER, ANSWER, label=0), ("label",)),
        (
            messages({"role": "user", "content": [{"type": "thinking", "thinking": "hm"}, "hi"]}, ANSWER),
            ("messages[].content of user: thinking",),
        ),
        (
            {
                "conversations": [
                    {"from": "human", "value": "hi", "weight": 1.0},
                    {"from": "gpt", "value": "hello", "weight": 1.0},
                ]
            },
            ("conversations[].weight of user",),
        ),
        (messages(USER, ANSWER, prompt="hi", text="hi hello"), ("prompt", "text")),
        ({"text": "hello", "url": "https://example.org", "messages": None}, ("url",)),
        (messages(USER, ANSWER, label="greeting"), ("label",)),
        ({"prompt": "hi", "chosen": [USER, ANSWER], "rejected": [USER, WORSE], "score_chosen": 8.5}, ("score_chosen",)),
        ({"text": "hello", "a\nb\ud83d": 1, "": 0}, ("a b\\ud83d", "''")),
    ],
)
def test_what_has_no_effect_is_named(columns: dict[str, Any], ignored: tuple[str, ...]) -> None:
    assert to_row(columns).ignored == ignored


@pytest.mark.parametrize("absent", [None, "", math.nan])
def test_a_table_has_the_columns_of_all_its_forms(absent: Any) -> None:
    table = dict.fromkeys(
        ("messages", "prompt", "completion", "instruction", "output", "text", "chosen", "rejected", "tools"), absent
    )
    assert to_row({**table, "messages": [USER, ANSWER]}) == chat(*CHAT)
    assert to_row({**table, "prompt": "hi", "completion": "hello"}) == chat(*CHAT)
    assert to_row({**table, "instruction": "hi", "output": "hello"}) == chat(*CHAT)
    assert to_row({**table, "text": "hello"}) == Row(text="hello")
    assert to_row({**table, "prompt": "hi", "chosen": "hello", "rejected": "what"}) == PAIR


CALLS_NOTHING = {"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]}
CALLS_BADLY = {"role": "assistant", "tool_calls": [{"function": {"name": "stock", "arguments": "{'a': 1}"}}]}
CALLS_A_LIST = {"role": "assistant", "tool_calls": [{"function": {"name": "stock", "arguments": "[1]"}}]}
CALLS_OTHERWISE = {"role": "assistant", "tool_calls": [{"type": "custom", "custom": {"name": "stock"}}]}


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        (messages(USER, {**ANSWER, "weight": 0}), "has no assistant message to train on: the weight of each is 0"),
        (messages(USER, {**ANSWER, "weight": 0.5}), "message 2 (assistant) has the weight 0.5; known are 0 and 1"),
        (messages(USER, {**ANSWER, "train": "no"}), "message 2 (assistant) has the train 'no'"),
        (
            messages(USER, {**ANSWER, "train_detail": [{"begin_offset": 0}]}),
            "'train_detail'; a message is learned as a whole",
        ),
        (
            messages(USER, reference_answer="hello"),
            "has no assistant message, so there is nothing to train on",
        ),
        (
            messages(USER, {"role": "usr", "content": "x"}),
            "message 2 has the role 'usr'; known are system, developer, user",
        ),
        (messages(USER, {"content": "x"}), "message 2 has no role"),
        (messages(USER, {"role": "assistant", "content": None}), "message 2 (assistant) has no content"),
        (
            messages(USER, {"role": "assistant", "content": "<think>well</think>"}),
            "message 2 (assistant) has only thoughts",
        ),
        (
            messages({"role": "user", "content": {"a": 1}}, ANSWER),
            "message 1 (user) has content that is an object, not text",
        ),
        (
            messages({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, ANSWER),
            "message 1 (user) has a part of the type 'image_url'; only text",
        ),
        (
            messages({"role": "user", "content": [{"image": "a.png"}]}, ANSWER),
            "message 1 (user) has a part with image; only text",
        ),
        (
            messages({**USER, "tool_calls": [OPENAI_CALL]}, ANSWER),
            "message 1 (user) calls a tool; only the assistant can",
        ),
        (messages(USER, CALLS_NOTHING), "message 2 (assistant) has a call without the tool's name"),
        (
            messages(USER, CALLS_BADLY),
            "message 2 (assistant): 'arguments' of stock is text that is not JSON; write it with json.dumps",
        ),
        (
            messages(USER, CALLS_A_LIST),
            "message 2 (assistant): 'arguments' of stock is a list, not an object",
        ),
        (messages(USER, CALLS_OTHERWISE), "message 2 (assistant) has a call of the type 'custom'"),
        (
            sharegpt(("human", "hi"), ("function_call", "stock(rope)")),
            "message 2 (function_call): the call of a tool is text that is not JSON",
        ),
        (
            messages(USER, {**ANSWER, "content": "<think>a</think>b", "reasoning": "c"}),
            "message 2 (assistant) has different thoughts in two places",
        ),
        (messages(USER, ANSWER, tools="weather, stock"), "'tools' is text that is not JSON"),
        (messages(USER, ANSWER, tools=[{"description": "x"}]), "tool 1 of 'tools' has no name"),
        (messages(USER, ANSWER, documents=["a text"]), "document 1 of 'documents' is text, not an object"),
        (
            messages({"role": "system", "content": "be kind"}, USER, ANSWER, system="be brief"),
            "'system' differs from the system message that the row has already",
        ),
        (
            messages(USER, ANSWER, system="be brief", system_prompt="be kind"),
            "'system_prompt' differs from the system message",
        ),
        (messages(USER, ANSWER, system=3), "'system' has content that is a number"),
        (
            messages(USER, ANSWER, images=["a.png"]),
            "'images' has images, audio or video; Fineline learns from text only",
        ),
        ({"text": "a picture", "image": b"\x89PNG"}, "'image' has images, audio or video"),
        ({"prompt": "hi", "completion": "hello", "label": True}, "'label' marks the answer as good or bad"),
        (messages(USER, ANSWER, label="False"), "'label' marks the answer as good or bad"),
        (messages(USER, ANSWER, kto_tag=0), "'kto_tag' marks the answer as good or bad"),
        (
            messages(USER, {"role": "assistant", "content": "<think>never ends"}),
            "message 2 (assistant) has a thought that does not end",
        ),
        ({"prompt": "hi", "completion": "[THINK]never ends"}, "the answer has a thought that does not end"),
        ({"instruction": "hi", "output": "hello", "kto_tag": "false"}, "'kto_tag' marks the answer as good or bad"),
        ({"prompt": "hi", "completions": ["a", "b"]}, "'completions' holds several answers"),
        ({"question": "hi", "answers": ["a", "b"]}, "'answers' holds several answers"),
        ({"question": "hi", "answer": ["a", "b"]}, "'answer' is a list, not text"),
        ({"question": "hi", "answer": "hello", "context": {"a": 1}}, "'context' is an object, not text"),
        (
            {"instruction": "hi", "output": "hello", "history": ["one"]},
            "turn 1 of 'history' is text, not a list of a question and its answer",
        ),
        (
            {"instruction": "hi", "output": "hello", "history": [["one", 2]]},
            "turn 1 of 'history' has a number where a text belongs",
        ),
        ({"conversation": "A: hi\nB: hello"}, "'conversation' is text that is not JSON"),
        (
            {"conversations": "[{'from': 'human', 'value': 'hi'}]"},
            "'conversations' is text that is not JSON; write it with json.dumps",
        ),
        ({"conversations": ["hi", "hello"]}, "message 1 is text, not an object"),
        ({"prompt": [USER], "completion": [USER]}, "'completion' has no assistant message"),
        (
            {"input": {"messages": [USER]}, "preferred_output": [ANSWER], "non_preferred_output": [ANSWER]},
            "'preferred_output' and 'non_preferred_output' are the same answer",
        ),
        ({"input": "hi", "preferred_output": "a", "non_preferred_output": "b"}, "'input' is text that is not JSON"),
        (
            {"input": {"prompt": "x"}, "preferred_output": "a", "non_preferred_output": "b"},
            "'input.messages' is null, not a list",
        ),
        (
            messages(USER, ANSWER, chosen="a", rejected="b"),
            "'messages' ends with an answer, so it is no prompt of 'chosen'",
        ),
        (
            {"prompt": [USER], "chosen": [{**ANSWER, "weight": 0}], "rejected": [WORSE]},
            "'chosen' has an answer with the weight 0",
        ),
        ({"chosen": [{"role": "system", "content": ""}], "rejected": "b", "prompt": ""}, "is only an answer"),
        ({"text": "cut \ud83d here"}, "has '\\ud83d', half of a character"),
        (
            messages(USER, {"role": "assistant", "tool_calls": [{"name": "a", "arguments": '{"b": "\\ud83d"}'}]}),
            "has '\\ud83d', half of a character",
        ),
        *(
            ({**messages(USER, ANSWER), name: json.dumps(value)}, "has '\\ud83d', half of a character")
            for name, value in {
                "messages": [USER, {**ANSWER, "reasoning": "cut \ud83d"}],
                "tools": [{"name": "a", "description": "cut \ud83d"}],
                "documents": [{"title": "a", "text": "cut \ud83d"}],
            }.items()
        ),
        ({f"c{number}": 1 for number in range(30)}, "c18, c19 and 10 more; expected are messages"),
        ({"a\n\ud83d": 1}, "has the columns a \\ud83d; expected are"),
    ],
)
def test_a_row_that_cannot_be_used_says_why_in_a_line(columns: dict[str, Any], reason: str) -> None:
    with pytest.raises(FormError) as caught:
        to_row(columns)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    str(caught.value).encode()


ODD: list[Any] = [
    None,
    3,
    0.5,
    True,
    "",
    "x",
    "[",
    "[1]",
    "{}",
    [],
    {},
    ["x"],
    [None],
    [[]],
    {"a": 1},
    {"role": ["x"]},
    b"x",
    math.nan,
]


def spoilt(value: Any) -> Iterator[Any]:
    """Yield a value with each part of it replaced by something odd."""
    yield from ODD
    if isinstance(value, dict):
        yield from ({**value, key: odd} for key in value for odd in spoilt(value[key]))
    elif isinstance(value, list):
        yield from ([*value[:at], odd, *value[at + 1 :]] for at in range(len(value)) for odd in spoilt(value[at]))


@pytest.mark.parametrize(
    "columns",
    [
        {**CALLS[0], "tools": [TOOL], "system": "be brief", "documents": [{"text": "a"}]},
        CALLS[2],
        CALLS[5],
        messages(USER, {**ANSWER, "reasoning": "hm", "weight": 1, "content": [{"type": "text", "text": "hello"}]}),
        {"instruction": "hi", "output": "hello", "history": [["one", "two"]], "context": ["a"], "thinking": "hm"},
        {"query": "any rope?", "answers": [{"name": "stock", "arguments": {"article": "rope"}}], "text": "x"},
        {"prompt": [USER], "chosen": [ANSWER], "rejected": [WORSE], "question": "hi"},
        {"input": {"messages": [USER], "tools": [TOOL]}, "preferred_output": [ANSWER], "non_preferred_output": [WORSE]},
        messages(USER, ANSWER, rejected_response=[WORSE]),
    ],
)
def test_whatever_stands_in_a_row_it_is_a_row_or_a_reason_in_a_line(columns: dict[str, Any]) -> None:
    rows = list(spoilt(columns))[len(ODD) :]
    used = 0
    for row in rows:
        try:
            conversation = to_row(row).conversation
        except FormError as error:
            assert "\n" not in str(error)
        else:
            used += 1
            assert conversation is None or Conversation.from_json(conversation.to_json()) == conversation
            assert conversation is None or (conversation.answer.role == "assistant" and conversation.answer.learnt)
    assert 0 < used < len(rows)


def test_a_row_that_is_nested_too_deeply_says_so() -> None:
    tools: Any = {"name": "stock"}
    for _ in range(3000):
        tools = {"name": "stock", "parameters": tools}
    with pytest.raises(FormError, match="nested too deeply"):
        to_row(messages(USER, ANSWER, tools=[tools]))


def test_the_same_question_has_the_same_text_whatever_tools_found_and_the_assistant_thought() -> None:
    one = Conversation((system("be brief"), *CALLED), TOOLS)
    other = Conversation((system("be brief"), CALLED[0], Message("assistant", "No.", thinking="hm")))
    assert one.question == other.question == "be brief\nany rope?"
    assert replace(other, documents="[]").question == "[]\nbe brief\nany rope?"
    assert Conversation(CHAT[1:]).question == "assistant: hello"  # nobody asks: the rows are different ones


def test_a_conversation_is_the_same_when_read_back() -> None:
    row = to_row(
        messages(*CALLS[0]["messages"][:-1], {**SAID, "reasoning": "hm"}, tools=[TOOL], documents=[{"text": "a"}])
    )
    assert row.conversation
    assert Conversation.from_json(row.conversation.to_json()) == row.conversation
    assert row.conversation.for_template()[1]["tool_calls"] == [
        {"type": "function", "function": {"name": "stock", "arguments": {"article": "rope"}}}
    ]
