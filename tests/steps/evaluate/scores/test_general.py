"""The general questions: well formed, and answered by the option that a model finds most likely."""

from collections import Counter
from pathlib import Path

from steps.common.model.chat_template import ChatTemplate
from steps.common.model.packs import IGNORE_INDEX
from steps.evaluate.scores import general
from steps.evaluate.scores.row_losses import row_losses


def test_every_question_has_one_right_option_and_no_position_is_favoured() -> None:
    items = general.general_questions()
    assert 60 <= len(items) <= 120
    assert len({(item.ask, *item.options) for item in items}) == len(items)
    for item in items:
        assert len(item.options) == round(1 / general.CHANCE)
        assert len(set(item.options)) == len(item.options)
        assert 0 <= item.right < len(item.options)
        assert all(text == text.strip() and text for text in (item.ask, *item.options))
    places = Counter(item.right for item in items)
    assert max(places.values()) - min(places.values()) <= 2
    kinds = Counter(item.kind for item in items)
    assert set(kinds) == {"knowledge", "arithmetic", "language", "instructions"}
    assert min(kinds.values()) >= 20


def test_the_longest_option_is_seldom_the_right_one_by_more_than_chance() -> None:
    items = [
        item
        for item in general.general_questions()
        if len({len(option) for option in item.options}) == len(item.options)
    ]
    shortest = sum(len(item.options[item.right]) == min(map(len, item.options)) for item in items)
    longest = sum(len(item.options[item.right]) == max(map(len, item.options)) for item in items)
    assert shortest / len(items) < 0.5
    assert longest / len(items) < 0.5


def test_options_are_scored_independently_of_what_they_are_packed_with(tiny_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval().requires_grad_(False)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    rows = general.option_rows(ChatTemplate(tokenizer))
    packed = row_losses(model, rows, 512, "cpu", "options", packed=True)
    options = [option for item in general.general_questions() for option in item.options]
    for place in (0, 1, 50, len(rows) - 1):
        row, option = rows[place], options[place]
        learnt = [token for token in row.labels if token != IGNORE_INDEX]
        assert tokenizer.decode(learnt) == option
        logits = model(input_ids=torch.tensor([row.input_ids])).logits[0].log_softmax(-1)
        start = len(row.input_ids) - len(learnt)
        said = sum(float(logits[start - 1 + number, token]) for number, token in enumerate(learnt))
        assert abs(-said - packed.nats[place]) < 1e-3
    right = general.right_options(packed)
    assert len(right) == len(general.general_questions())
    chances = [packed.nats[3 * number : 3 * number + 3] for number in range(len(right))]
    best = [nats.index(min(nats)) for nats in chances]
    assert right == [place == item.right for place, item in zip(best, general.general_questions(), strict=True)]
