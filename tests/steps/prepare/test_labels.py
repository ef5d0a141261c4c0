"""Labels: what the model has to generate under the prompt that the server builds, and nothing else."""

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from steps.common.model.chat_template import ChatTemplate
from steps.common.model.packs import IGNORE_INDEX
from steps.common.rows.conversation import Conversation, Message, ToolCall
from steps.common.rows.row import Row
from steps.prepare.label_pairs import labelled_examples, labelled_examples_batch
from steps.prepare.labels import Example, Labeller, TooLongError
from steps.prepare.learnt_turns import LabelError, LearntTurns
from tests.conftest import TEMPLATE

# The ways in which templates of the field write turns, each in as few words as possible.
START = "<|im_start|>{{ m.role }}\n"
PROMPT = "{% if add_generation_prompt %}<|im_start|>assistant\n"
# The prompt opens a thought, and a turn that is over has none.
OPENED = (
    "{% for m in messages %}" + START + "{{ m.content.split('</think>')[-1] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
# The last turn has a thought, maybe an empty one; the prompt has one that is over if `enable_thinking` is false.
OPTIONAL = (
    "{% for m in messages %}" + START + "{% if m.role == 'assistant' and loop.last %}<think>\n"
    "{{ m.reasoning_content|default('') }}\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    + PROMPT
    + "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
# The system message stands with the last message if that is the user's, and is lost once it is answered.
MOVED = (
    "{% set s = messages[0].content if messages[0].role == 'system' else '' %}{% for m in messages %}"
    "{% if m.role == 'user' %}<|im_start|>{% if loop.last and s %}{{ s }}\n\n{% endif %}{{ m.content }}[/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }}<|im_end|>{% endif %}{% endfor %}"
)
TRIMMED = TEMPLATE.replace("message['content'] }}", "message['content'] | trim }}")
TOOLS = (
    "{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}{% for m in messages %}"
    + START
    + "{{ m.content }}{% for c in m.tool_calls %}<tool_call>{{ c.function.name }} {{ c.function.arguments | tojson }}"
    "</tool_call>{% endfor %}<|im_end|>\n{% endfor %}" + PROMPT + "{% endif %}"
)
CONCATENATED = TOOLS.replace("{{ c.function.arguments | tojson }}", "{{ 'of ' + c.function.arguments }}")
NO_RESULTS = TOOLS.replace("{% for m in messages %}", "{% for m in messages if m.role != 'tool' %}")
SAID = TEMPLATE.replace("in messages", "in messages if message.role != 'system'")
# The last turn ends with one token more, such as Phi-3's.
ENDED = TEMPLATE.replace("{% endif %}", "{% else %}<|endoftext|>{% endif %}")
TOOL = json.dumps([{"type": "function", "function": {"name": "count", "parameters": {"type": "object"}}}])

ONE = Conversation.of(("user", "cats?"), ("assistant", "yes cats"))
TWO = Conversation.of(
    ("system", "be kind"), ("user", "cats?"), ("assistant", "yes cats"), ("user", "dogs?"), ("assistant", "no")
)
THOUGHT = Conversation(
    (
        *TWO.messages[:2],
        Message("assistant", "yes cats", thinking="we have cats"),
        TWO.messages[3],
        Message("assistant", "no", thinking="no dogs"),
    )
)
CALLS = Conversation(
    (
        Message("user", "cats?"),
        Message("assistant", tool_calls=(ToolCall("count", '{"of": "cats"}'),)),
        Message("tool", "3", name="count"),
        Message("assistant", "3 cats"),
    ),
    tools=TOOL,
)
AT = "<|im_start|>assistant\n"
END = "<|im_end|>"


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


def with_template(tokenizer: Any, template: str) -> Any:
    found = deepcopy(tokenizer)
    found.chat_template = template
    return found


def learnt(found: Example, tokenizer: Any) -> str:
    return str(tokenizer.decode([label for label in found.labels if label != IGNORE_INDEX]))


@pytest.mark.parametrize(
    ("template", "arguments", "chat", "expected"),
    [
        (TEMPLATE, {}, TWO, ["yes cats<|im_end|>no<|im_end|>"]),
        (TRIMMED, {}, TWO, ["yes cats<|im_end|>no<|im_end|>"]),
        (OPENED, {}, ONE, ["\n</think>\n\nyes cats<|im_end|>"]),
        (OPENED, {}, TWO, ["\n</think>\n\nyes cats<|im_end|>", "\n</think>\n\nno<|im_end|>"]),
        (
            OPENED,
            {},
            THOUGHT,
            [f"{t}\n</think>\n\n{a}{END}" for t, a in (("we have cats", "yes cats"), ("no dogs", "no"))],
        ),
        (OPTIONAL, {}, TWO, ["yes cats<|im_end|>no<|im_end|>"]),
        (OPTIONAL, {"enable_thinking": False}, TWO, ["yes cats<|im_end|>", "no<|im_end|>"]),
        (
            OPTIONAL,
            {},
            THOUGHT,
            [f"<think>\n{t}\n</think>\n\n{a}{END}" for t, a in (("we have cats", "yes cats"), ("no dogs", "no"))],
        ),
        (
            TEMPLATE,
            {},
            THOUGHT,
            [f"<think>\n{t}\n</think>\n\n{a}{END}" for t, a in (("we have cats", "yes cats"), ("no dogs", "no"))],
        ),
        (ENDED, {}, TWO, ["yes cats<|im_end|>no<|im_end|>\n<|endoftext|>"]),
        (MOVED, {}, TWO, [" yes cats<|im_end|>", " no<|im_end|>"]),
        (TOOLS, {}, CALLS, ['<tool_call>count {"of": "cats"}</tool_call><|im_end|>3 cats<|im_end|>']),
        (CONCATENATED, {}, CALLS, ['<tool_call>count of {"of": "cats"}</tool_call><|im_end|>3 cats<|im_end|>']),
    ],
)
def test_each_turn_is_learnt_under_the_prompt_that_the_server_builds(
    tokenizer: Any, template: str, arguments: dict[str, Any], chat: Conversation, expected: list[str]
) -> None:
    asked = with_template(tokenizer, template)
    found = labelled_examples(Row(chat), Labeller(asked, 512, arguments))
    assert [learnt(one, tokenizer) for one in found] == expected
    assert sum(one.turns_learnt for one in found) == 2 if len(chat.messages) > 2 else 1
    assert all(one.turns_read == 0 for one in found)
    server = ChatTemplate(asked, arguments)
    for one in found:
        assert one.conversation is not None
        prompt = asked(server.prompt(one.conversation.asked), add_special_tokens=False)["input_ids"]
        assert one.input_ids[: len(prompt)] == prompt
        assert one.labels[len(prompt)] == one.input_ids[len(prompt)]
        assert one.labels[len(prompt) - 1] == IGNORE_INDEX


def test_many_rows_are_labelled_as_each_alone(tokenizer: Any) -> None:
    said = ["yes cats", " yes\n", "no", "we </think> are"]
    rows = [
        Row(replace(TWO, messages=(*TWO.messages[:2], Message("assistant", one, thinking=thought), *TWO.messages[3:])))
        for one in said
        for thought in ("", "cats")
    ] * 3
    for template in (TEMPLATE, OPENED, OPTIONAL, MOVED, TRIMMED):
        labeller = Labeller(with_template(tokenizer, template), 512)
        together = labelled_examples_batch(rows, labeller)
        alone = [labelled_examples_batch([row], Labeller(labeller.tokenizer, 512))[0] for row in rows]
        assert [str(one) for one in together] == [str(one) for one in alone]


def test_a_shape_that_is_known_is_rendered_once(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = LearntTurns(ChatTemplate(tokenizer))
    asked = [(TWO, (2, 4))] * 4
    expected = turns.find_all(asked)
    monkeypatch.setattr(LearntTurns, "find", lambda *_: pytest.fail("rendered for each turn"))
    assert turns.find_all(asked) == expected


def test_a_turn_that_is_only_read_is_counted_and_not_learnt(tokenizer: Any) -> None:
    unlearnt = replace(TWO, messages=tuple(replace(one, learnt=one.content != "yes cats") for one in TWO.messages))
    (found,) = labelled_examples(Row(unlearnt), Labeller(tokenizer, 512))
    assert (learnt(found, tokenizer), found.turns_learnt, found.turns_read) == ("no<|im_end|>", 1, 1)
    last = replace(TWO, messages=(*TWO.messages[:4], replace(TWO.messages[4], learnt=False)))
    (found,) = labelled_examples(Row(last), Labeller(tokenizer, 512))
    assert (learnt(found, tokenizer), found.turns_learnt, found.turns_read) == ("yes cats<|im_end|>", 1, 1)
    assert found.conversation is not None
    assert found.conversation.answer.content == "yes cats"
    greeting = Conversation((Message("assistant", "hello"), *ONE.messages))
    (found,) = labelled_examples(Row(greeting), Labeller(tokenizer, 512))
    assert (learnt(found, tokenizer), found.turns_read) == ("yes cats<|im_end|>", 1)


@pytest.mark.parametrize(
    ("template", "arguments", "chat", "reason"),
    [
        ("{{ raise_exception('no system messages here') }}", {}, TWO, "chat template: no system messages here"),
        (TEMPLATE, {}, replace(ONE, tools=TOOL), "its tools: the model's chat template takes none"),
        (
            TEMPLATE,
            {},
            replace(ONE, documents='[{"text": "cats"}]'),
            "its documents: the model's chat template takes none",
        ),
        (TEMPLATE, {}, replace(CALLS, tools=""), "its message 2: the model's chat template does not write calls"),
        (
            SAID,
            {},
            replace(TWO, messages=TWO.messages[:3]),
            "its message 1: the model's chat template does not write a sys",
        ),
        (NO_RESULTS, {}, CALLS, "its message 3: the model's chat template does not write results of tools"),
        (
            OPTIONAL,
            {"enable_thinking": False},
            THOUGHT,
            "its message 3 has thoughts, and the model is asked to answer with",
        ),
        (TEMPLATE, {}, replace(ONE, messages=(ONE.messages[0], Message("assistant", "a", learnt=False))), "is learned"),
        (
            TEMPLATE.replace("{{ message['content'] }}<|im_end|>\n", ""),
            {},
            ONE,
            "its message 2 is changed by the chat template, so it",
        ),
    ],
)
def test_what_a_template_does_not_take_is_refused_by_name(
    tokenizer: Any, template: str, arguments: dict[str, Any], chat: Conversation, reason: str
) -> None:
    with pytest.raises(LabelError, match=reason.replace("(", r"\(")):
        labelled_examples(Row(chat), Labeller(with_template(tokenizer, template), 512, arguments))


def test_a_token_over_the_border_of_prompt_and_answer_does_not_change_the_prompt(tokenizer: Any) -> None:
    # "dogs" is one token, so that the joint text has no token that ends with the prompt.
    inside = with_template(
        tokenizer, "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %} do{% endif %}"
    )
    row = Row(Conversation.of(("user", "we have"), ("assistant", " dogs happy")))
    (found,) = labelled_examples(row, Labeller(inside, 512))
    prompt = tokenizer("we have do", add_special_tokens=False)["input_ids"]
    assert found.input_ids[: len(prompt)] == prompt or tokenizer.decode(found.input_ids) == "we have dogs happy"


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("we have food", ["<|im_start|>", "we have food", "<|im_end|>"]),
        ("<|im_start|>user\ncats?<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n", []),
        ("<|im_start|>assistant\nyes", ["<|im_start|>", "assistant\nyes", "<|im_end|>"]),
        ("we have food<|endoftext|>", ["<|im_start|>", "we have food", "<|endoftext|>"]),
    ],
)
def test_a_plain_text_begins_and_ends_once(tokenizer: Any, text: str, ids: list[str]) -> None:
    stops = [tokenizer.convert_tokens_to_ids("<|endoftext|>")]
    (found,) = labelled_examples(Row(text=text), Labeller(tokenizer, 512, stops=stops))
    assert tokenizer.decode(found.input_ids) == ("".join(ids) or text)
    assert found.labels == found.input_ids
    assert found.conversation is None


def test_a_plain_text_ends_whatever_its_last_token_and_whatever_the_template_refuses(tokenizer: Any) -> None:
    picky = with_template(tokenizer, "{{ raise_exception('a system message, please') }}")
    picky.add_tokens(["<image>"], special_tokens=True)
    for text in ("we have <image>", "<|im_start|>system\nwe have"):
        (found,) = labelled_examples(Row(text=text), Labeller(picky, 512))
        assert picky.decode(found.input_ids).endswith(text + END)
    own = with_template(picky, "{% for m in messages %}{{ m.content }}<image>\n{% endfor %}")  # it ends a turn with it
    (found,) = labelled_examples(Row(text="we have <image>"), Labeller(own, 512))
    assert own.decode(found.input_ids).endswith("we have <image>")


def test_an_answer_whose_last_token_goes_on_in_the_template_is_learnt_to_its_end() -> None:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    words = Regex(r"\p{L}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+")  # as Qwen and Llama 3 have it
    split, level = pre_tokenizers.Split(words, "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(["yes.\n\nno.\n\n"] * 4, trainers.BpeTrainer(initial_alphabet=alphabet, vocab_size=300))
    joining = PreTrainedTokenizerFast(tokenizer_object=backend)
    joining.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    assert any(text.startswith(".") and len(text) == 3 for text in joining.get_vocab())
    chat = Conversation.of(("user", "cats?"), ("assistant", "yes."), ("user", "dogs"), ("assistant", "no"))
    found = labelled_examples(Row(chat), Labeller(joining, 512))
    said = ["".join(joining.convert_ids_to_tokens([x for x in one.labels if x != IGNORE_INDEX])) for one in found]
    assert sorted(said) == ["no", "yes."]
    assert sum(one.turns_learnt for one in found) == 2


@pytest.mark.parametrize("scheme", ["first", "always"])
def test_without_a_template_each_turn_is_learnt_under_the_prompt_of_the_evaluation(scheme: str) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    specials = ["<unk>", "<s>", "</s>"]
    said = ["cats?", "yes cats", "dogs?", "no"]
    backend.train_from_iterator(["\n".join(said)] * 4, trainers.BpeTrainer(special_tokens=specials, vocab_size=60))
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    plain = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    chat = Conversation.of(*zip(["user", "assistant"] * 2, said, strict=True))  # type: ignore[arg-type]
    found = labelled_examples(Row(chat), Labeller(plain, 512))
    assert [one.turns_learnt for one in found] == [1, 1]
    for one, answer in zip(found, (said[1], said[3]), strict=True):
        assert one.conversation is not None
        prompt = plain(ChatTemplate(plain).prompt(one.conversation.asked))["input_ids"]
        assert one.input_ids[: len(prompt)] == prompt
        assert one.labels == [IGNORE_INDEX] * len(prompt) + one.input_ids[len(prompt) :]
        rest = plain.convert_ids_to_tokens(one.input_ids[len(prompt) :])
        assert "".join(rest) == answer.replace(" ", "\u2581") + "</s>"
    long = replace(chat, messages=(*chat.messages[:2], Message("user", "dogs? " * 40), chat.messages[3]))
    (cut,) = labelled_examples(Row(long), Labeller(plain, 30, too_long="cut"))
    assert (cut.input_ids, cut.turns_cut, cut.turns_read) == (found[0].input_ids, 1, 0)


def test_a_row_that_is_too_long_is_refused_with_its_length(tokenizer: Any) -> None:
    with pytest.raises(TooLongError, match=r"is \d+ tokens long, over data.max_tokens \(64\)") as caught:
        labelled_examples(Row(text="we have food " * 100), Labeller(tokenizer, 64))
    assert int(str(caught.value).split()[1]) > 64


def test_a_conversation_is_cut_between_turns_and_what_is_learnt_stays_whole(tokenizer: Any) -> None:
    long = Conversation((*TWO.messages[:3], Message("user", "dogs? " * 40), TWO.messages[4]))
    (found,) = labelled_examples(Row(long), Labeller(tokenizer, 64, too_long="cut"))
    assert tokenizer.decode(found.input_ids).endswith("yes cats<|im_end|>")
    assert (learnt(found, tokenizer), found.turns_learnt, found.turns_cut) == ("yes cats<|im_end|>", 1, 1)
    assert found.conversation == replace(long, messages=long.messages[:3])
    alone = Conversation.of(("user", "dogs? " * 40), ("assistant", "no"))
    with pytest.raises(TooLongError):
        labelled_examples(Row(alone), Labeller(tokenizer, 64, too_long="cut"))
    moved = Labeller(with_template(tokenizer, OPENED), 64, too_long="cut")
    (found,) = labelled_examples(Row(long), moved)
    assert (learnt(found, tokenizer), found.turns_cut) == ("\n</think>\n\nyes cats<|im_end|>", 1)


def test_a_token_that_the_model_has_no_embedding_for_makes_a_bad_row(tokenizer: Any) -> None:
    from copy import deepcopy

    larger = deepcopy(tokenizer)
    vocabulary = len(larger)
    larger.add_tokens(["<image>"], special_tokens=True)
    seen = Conversation.of(("user", "a <image>"), ("assistant", "cats"))
    chat, plain = Row(seen), Row(text="we have <image>")
    labeller = Labeller(larger, 512, vocabulary=vocabulary)
    for row in (chat, plain):
        with pytest.raises(LabelError, match="has '<image>', a token that the tokenizer has and the model has not"):
            labelled_examples(row, labeller)
        assert labelled_examples(row, Labeller(larger, 512))
    assert labelled_examples(Row(text="we have food"), labeller)
    cutting = Labeller(larger, 64, too_long="cut", vocabulary=vocabulary)
    turns = Conversation.of(("user", "dogs? " * 40), ("assistant", "no")).messages
    for long in (chat, Row(Conversation((*seen.messages, *turns)))):
        with pytest.raises(LabelError, match="has '<image>', a token that the tokenizer has and the model has not"):
            labelled_examples(long, cutting)
    behind = Row(Conversation((*ONE.messages, Message("user", "dogs <image>" * 40), turns[1])))
    assert [one.turns_cut for one in labelled_examples(behind, cutting)] == [1]
