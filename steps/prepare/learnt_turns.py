"""Finds what is learnt of a conversation: each of the assistant's turns under exactly the prompt that the server builds for it.

A turn's prompt is the template rendered up to the turn, and what is learnt is what the model has to generate behind it. Turns
whose prompts and answers are the beginning of one text share that text. Others, such as those whose thoughts the template drops
once they have been answered, are texts of their own.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from steps.common.model.chat_template import ChatTemplate, RefusedByTemplateError
from steps.common.rows.cells.thought_marks import MARKS, closes_thought, opens_thought
from steps.common.rows.conversation import Conversation, Message

THOUGHT_ENDS = "{thought}\n{closing}\n\n"  # as reasoning models write it


class LabelError(Exception):
    """The row cannot be labelled; the text says why."""

    def within(self, place: str) -> "LabelError":
        """Return the same error with a text in front of its own."""
        return type(self)(f"{place}{self}")


@dataclass(frozen=True)
class LearntSpan:
    """A turn in a text: the characters that the model has to generate."""

    start: int
    end: int
    turn: int  # index of the message


@dataclass(frozen=True)
class LearntText:
    """A text that the model reads, and the turns that it learns in it, in their order."""

    text: str
    spans: tuple[LearntSpan, ...]


@dataclass(frozen=True)
class _Part:
    """A piece of a text: the template's own, or the content or thought of a message."""

    literal: str
    value: int  # index into the values of a conversation; -1: literal


@dataclass(frozen=True)
class _Frame:
    """A text without its values. A span begins and ends with a part."""

    parts: tuple[_Part, ...]
    spans: tuple[tuple[int, int, int], ...]  # first part, part behind the last, turn

    def filled(self, values: Sequence[str]) -> LearntText:
        pieces = [part.literal if part.value < 0 else values[part.value] for part in self.parts]
        starts = [0]
        for piece in pieces:
            starts.append(starts[-1] + len(piece))
        spans = tuple(LearntSpan(starts[first], starts[behind], turn) for first, behind, turn in self.spans)
        return LearntText("".join(pieces), spans)


@dataclass(frozen=True)
class _Shape:
    """How the template writes all conversations with the same roles."""

    whole: _Frame
    texts: tuple[_Frame, ...]  # the first may be the whole one
    padding: Literal["kept", "stripped", "mixed"]  # what becomes of spaces around a message


class LearntTurns:
    """Finds the learnt turns of conversations under one template."""

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template
        self._specials = tuple(token.content for token in template.tokenizer.added_tokens_decoder.values())
        self._seen: Counter[tuple[Any, ...]] = Counter()
        self._shapes: dict[tuple[Any, ...], _Shape | None] = {}

    def find(self, conversation: Conversation, turns: Sequence[int]) -> list[LearntText]:
        """Return the texts in which the turns are learnt, each in one of them. Renders the conversation for each turn.

        Args:
            conversation: as it is in the row.
            turns: indices of the assistant's messages that are learnt; a first message has no prompt and cannot be.

        Raises:
            LabelError: the template refuses the conversation, or does not write all of it.
        """
        try:
            return self._find(conversation, turns)
        except RefusedByTemplateError as error:
            raise LabelError(f"is rejected by the model's chat template: {error}") from None

    def find_all(self, asked: Sequence[tuple[Conversation, tuple[int, ...]]]) -> list[list[LearntText] | LabelError]:
        """Do the same for many conversations.

        Those of a shape that has been seen before are rendered once: where the turns are is known then, and that the
        rendering is as expected is checked.
        """
        found: list[list[LearntText] | LabelError | None] = [None] * len(asked)
        known: list[tuple[int, _Shape]] = []
        for number, (conversation, turns) in enumerate(asked):
            shape = self._shape(conversation, turns)
            if shape:
                known.append((number, shape))
        renderings = (
            self._template.render_all([asked[number][0].for_template() for number, _ in known]) if known else []
        )
        for (number, shape), whole in zip(known, renderings or (), strict=bool(renderings)):
            found[number] = _as_expected(shape, asked[number][0], whole)
        return [one if one is not None else self._or_error(*asked[number]) for number, one in enumerate(found)]

    def _or_error(self, conversation: Conversation, turns: Sequence[int]) -> list[LearntText] | LabelError:
        try:
            return self.find(conversation, turns)
        except LabelError as error:
            return error

    def _find(self, conversation: Conversation, turns: Sequence[int]) -> list[LearntText]:
        template = self._template
        for what, given in (("tools", conversation.tools), ("documents", conversation.documents)):
            if given and not template.takes(what):
                raise LabelError(f"its {what}: the model's chat template takes none")
        self._check_written(conversation)
        messages = template.messages(conversation)
        whole = template.render(messages, conversation, asking=False)
        found: list[tuple[str, LearntSpan]] = []
        for turn in turns:
            prompt = template.render(messages[:turn], conversation, asking=True)
            last = turn + 1 == len(messages)
            answered = whole if last else template.render(messages[: turn + 1], conversation, asking=False)
            try:
                answer = generated(prompt, answered.rstrip(), conversation.messages[turn])
            except LabelError as error:
                raise LabelError(f"its message {turn + 1} {error}") from None
            found.append((prompt + answer, LearntSpan(len(prompt), len(prompt) + len(answer), turn)))
            missing = [call.name for call in conversation.messages[turn].tool_calls if call.name not in answer]
            if missing:
                raise LabelError(
                    f"its message {turn + 1} calls {missing[0]}, and the model's chat template does not write that"
                )
        return list(self._shared(whole, found))

    def _check_written(self, conversation: Conversation) -> None:
        """Refuse a conversation of which the template would leave out a message, or what is in it."""
        for number, message in enumerate(conversation.messages, 1):
            parts = {"system": "a system message", "tool": "results of tools"}
            what = "calls" if message.tool_calls else parts.get(message.role, "")
            if what and not self._template.takes(what):
                raise LabelError(f"its message {number}: the model's chat template does not write {what}")

    def _shared(self, whole: str, found: list[tuple[str, LearntSpan]]) -> Iterable[LearntText]:
        """Put each turn into a text that begins with its prompt and answer: the whole rendering, or that of a later turn."""
        texts, left = [], found
        while left:
            latest = left[-1][0]
            candidate = whole if whole.startswith(latest) else latest
            placed = [(text, span, self._placed(text, span, candidate)) for text, span in left]
            texts.append(LearntText(candidate, tuple(place for _, _, place in placed if place)))
            left = [(text, span) for text, span, place in placed if not place]
        return reversed(texts)

    def _placed(self, text: str, span: LearntSpan, candidate: str) -> LearntSpan | None:
        """Return where a turn's answer is in a text; None if the text does not begin with its prompt and answer.

        Some templates end the last turn with one token more than the others, such as Phi-3's. Without it, the answer still ends
        with the token that ends a turn.
        """
        if candidate.startswith(text):
            return span
        pairs = enumerate(zip(text, candidate, strict=False))
        end = next((number for number, (one, other) in pairs if one != other), min(len(text), len(candidate)))
        for special in self._specials:
            for begin in range(max(0, end - len(special) + 1), end):
                end = begin if text.startswith(special, begin) else end
        kept, dropped = text[:end].rstrip(), text[end:]
        for special in self._specials:
            dropped = dropped.replace(special, "")
        if dropped.strip() or len(kept) <= span.start or not kept.endswith(self._specials):
            return None
        return replace(span, end=len(kept))

    def _shape(self, conversation: Conversation, turns: tuple[int, ...]) -> _Shape | None:
        """Return the shape of a conversation if it is known; it becomes known when it occurs a second time."""
        messages = conversation.messages
        if conversation.tools or conversation.documents:
            return None
        key: tuple[Any, ...] = (turns,)
        for one in messages:
            if one.tool_calls or one.name or not one.content:
                return None
            key += (one.role, bool(one.thinking))
        self._seen[key] += 1
        if self._seen[key] == 2:
            self._shapes[key] = self._analysed(conversation, turns)
        return self._shapes.get(key)

    def _analysed(self, conversation: Conversation, turns: Sequence[int]) -> _Shape | None:
        plain, padded = (self._framed(conversation, turns, padding) for padding in ("", " \n "))
        if plain is None:
            return None
        whole, *texts = plain
        written = [part.value for part in whole.parts if part.value >= 0]
        used = {part.value for text in texts for part in text.parts if part.value >= 0}
        # What is not in the rendering could not be checked against it.
        if len(set(written)) < len(written) or not used <= set(written):
            return None
        if padded == plain:
            return _Shape(whole, tuple(texts), "kept")
        stripped = self._framed(conversation, turns, " \n ", stripped=True)
        return _Shape(whole, tuple(texts), "stripped" if stripped == plain else "mixed")

    def _framed(
        self, conversation: Conversation, turns: Sequence[int], padding: str, *, stripped: bool = False
    ) -> list[_Frame] | None:
        """Return the rendering and the texts of a conversation, whose messages are marks, as frames; None if refused."""
        count = 2 * len(conversation.messages)
        marks = [f"{padding}\ue000{number}\ue001{padding}" for number in range(count)]
        messages = tuple(
            replace(one, content=marks[2 * number], thinking=marks[2 * number + 1] if one.thinking else "")
            for number, one in enumerate(conversation.messages)
        )
        marked = replace(conversation, messages=messages)
        try:
            texts = self._find(marked, turns)
            whole = self._template.render(self._template.messages(marked), marked, asking=False)
        except (LabelError, RefusedByTemplateError):
            return None
        values = [mark.strip() for mark in marks] if stripped else marks
        framed = [_frame(text, values) for text in texts]
        of_whole = next((one for one, text in zip(framed, texts, strict=True) if text.text == whole), None)
        return [of_whole or _frame(LearntText(whole, ()), values), *framed]


def generated(prompt: str, answered: str, message: Message) -> str:
    """Return what a model has to generate behind a prompt.

    Args:
        prompt: the rendering up to the turn, with what precedes an answer.
        answered: the rendering that ends with the turn, without spaces at its end: the server stops before them.
        message: the turn.

    Raises:
        LabelError: the turn is not found, or has thoughts that the prompt excludes.
    """
    thought, content = message.thinking.strip(), message.content.strip()
    if answered.startswith(prompt):
        rest = answered[len(prompt) :]
    else:
        rest = _behind(_without_thought(prompt), answered)
        if content not in rest:
            raise LabelError("is changed by the chat template, so it cannot be learned as it stands in the row")
    if not rest.strip():
        raise LabelError("is not written by the model's chat template, so there is nothing to learn")
    if closes_thought(prompt) and thought:
        raise LabelError(
            "has thoughts, and the model is asked to answer without any; set chat.template_arguments.enable_thinking=true, or "
            "leave the thoughts out"
        )
    opening, closing = next((marks for marks in MARKS if marks[0] in prompt or marks[0] in answered), MARKS[0])
    if opens_thought(prompt):
        if answered.startswith(prompt) and thought in rest and closing in rest:
            return rest
        # Without thoughts, the model has to end what its prompt has begun: else its answer would be taken for a thought.
        return THOUGHT_ENDS.format(thought=thought, closing=closing) + _without_first_thought(rest).lstrip()
    if thought and thought in rest:
        return rest
    # Some templates write an empty thought where there is none. The model is never asked to think nothing.
    rest = _without_first_thought(rest)
    if not thought:
        return rest
    lead = rest[: len(rest) - len(rest.lstrip())]
    return lead + with_thought(thought, rest.lstrip(), (opening, closing))


def with_thought(thought: str, answer: str, marks: tuple[str, str] = MARKS[0]) -> str:
    """Return an answer with the thought before it, as reasoning models write them."""
    opening, closing = marks
    return f"{opening}\n{THOUGHT_ENDS.format(thought=thought, closing=closing)}{answer}"


def _behind(prompt: str, answered: str) -> str:
    """Return what follows the end of a prompt in a rendering that does not begin with the prompt.

    Some templates write what precedes a turn otherwise once it is answered, such as Mistral's its system message. Both texts
    have what stands directly before the answer.
    """
    shortest, longest = 0, len(prompt)
    while shortest < longest:
        middle = (shortest + longest + 1) // 2
        shortest, longest = (middle, longest) if prompt[-middle:] in answered else (shortest, middle - 1)
    if not shortest:
        raise LabelError("is not found in the rendered chat template")
    return answered[answered.rindex(prompt[-shortest:]) + shortest :]


def _without_thought(prompt: str) -> str:
    """Return a prompt without the thought that it opens, or has over, at its end."""
    for opening, closing in MARKS:
        found = re.search(rf"{re.escape(opening)}\s*({re.escape(closing)}\s*)?\Z", prompt)
        if found:
            return prompt[: found.start()]
    return prompt


def _without_first_thought(text: str) -> str:
    for opening, closing in MARKS:
        found = re.match(rf"\s*{re.escape(opening)}(.*?){re.escape(closing)}\s*", text, re.DOTALL)
        if found:
            return text[found.end() :]
    return text


def _as_expected(shape: _Shape, conversation: Conversation, whole: str) -> list[LearntText] | None:
    """Return the texts of a conversation of a known shape; None if its rendering is not as expected."""
    values = [text for message in conversation.messages for text in (message.content, message.thinking)]
    stripped = [value.strip() for value in values]
    if stripped != values:
        if shape.padding == "mixed":
            return None
        values = values if shape.padding == "kept" else stripped
    expected = shape.whole.filled(values)
    if expected.text != whole:
        return None
    return [expected if frame is shape.whole else frame.filled(values) for frame in shape.texts]


def _frame(text: LearntText, values: list[str]) -> _Frame:
    """Split a text at its marks and at the ends of its spans."""
    index = {value: number for number, value in enumerate(values)}
    marks = re.compile("|".join(map(re.escape, sorted(values, key=len, reverse=True))))
    edges = {edge for span in text.spans for edge in (span.start, span.end)}
    edges |= {edge for match in marks.finditer(text.text) for edge in match.span()}
    cuts = sorted({0, len(text.text), *edges})
    pieces = [text.text[start:end] for start, end in itertools.pairwise(cuts)]
    parts = tuple(_Part("", index[piece]) if piece in index else _Part(piece, -1) for piece in pieces)
    at = {cut: number for number, cut in enumerate(cuts)}
    return _Frame(parts, tuple((at[span.start], at[span.end], span.turn) for span in text.spans))
