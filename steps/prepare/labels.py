"""Tokenises and labels rows: of a conversation, only the assistant's turns, under the model's own, unmodified chat template.

`learnt_turns` finds the characters that are learnt, and the tokenizer's offsets their tokens. This works without the
`{% generation %}` marks, which few models ship.

The server tokenises a prompt alone. Where the prompt's last tokens differ in the whole text, because a token spans the border
between prompt and answer, the turn becomes an example of its own whose prompt and answer are tokenised separately.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from steps.common.model.chat_template import ChatTemplate, RefusedByTemplateError
from steps.common.model.packs import IGNORE_INDEX
from steps.common.rows.conversation import Conversation
from steps.common.rows.row import Row
from steps.prepare.kept_words import Encoding, WordEncoder
from steps.prepare.learnt_turns import LabelError, LearntSpan, LearntText, LearntTurns, with_thought

TooLong = Literal["stop", "skip", "cut"]
# Ends of prompts whose tokens are kept, and the longest of them in characters. A chat template has only a few, and short ones.
KEPT_TAILS, LONGEST_TAIL = 4096, 200
LINE = "\n"


@dataclass(slots=True)
class Example:
    """What the model reads at once: two lists of the same length, and the conversation up to the last turn that is learnt."""

    input_ids: list[int]
    labels: list[int]
    conversation: Conversation | None = None  # None: plain text
    turns_learnt: int = 0
    turns_read: int = (
        0  # assistant's turns of the row that are learnt in none of its examples; only its first one has them
    )
    turns_cut: int = 0  # learnt turns of the row that were cut off; likewise
    rejected: "Example | None" = None  # of a pair, the side with the rejected answer; this is the chosen one then

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return len(self.input_ids)

    @property
    def labelled(self) -> int:
        """Number of labelled tokens."""
        return len(self.labels) - self.labels.count(IGNORE_INDEX)


class TooLongError(LabelError):
    """The row is longer than `data.max_tokens`."""


@dataclass
class Labeller:
    """Labels rows for one model.

    Args:
        tokenizer: a fast transformers tokenizer, which provides offsets.
        max_tokens: most tokens of an example.
        arguments: of the chat template.
        too_long: "cut" ends a conversation that is too long after the last turn that fits. Otherwise it is an error.
        vocabulary: number of tokens that the model has embeddings for; 0: for all of the tokenizer's. Some tokenizers have
            tokens, of images for example, that their text models lack.
        stops: tokens at which the server ends an answer.
    """

    tokenizer: Any
    max_tokens: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    too_long: TooLong = "stop"
    vocabulary: int = 0
    stops: Collection[int] = ()

    def __post_init__(self) -> None:
        self.template = ChatTemplate(self.tokenizer, self.arguments)
        self._turns = LearntTurns(self.template)
        self._backend = self.tokenizer.backend_tokenizer
        # As the tokenizer itself does whenever it is called.
        self._backend.no_truncation()
        self._backend.no_padding()
        self._encoder = WordEncoder(self._backend)
        added = self.tokenizer.added_tokens_decoder
        self._added = frozenset(added)
        self._specials = tuple({token.content for token in added.values() if token.special})
        self._anchor = self.tokenizer.eos_token or next(iter(self._specials), "")
        self._tails: dict[str, list[int]] = {}
        known = self.vocabulary or len(self.tokenizer)
        self._without_embedding = {token: text for text, token in self.tokenizer.get_vocab().items() if token >= known}

    def examples(self, row: Row, *, last_alone: bool = False) -> list[Example]:
        """Tokenise and label a row that is no pair.

        Args:
            row: a chat or a plain text.
            last_alone: label only the last turn of a chat.

        Raises:
            LabelError: the row cannot be labelled; the text says why.
        """
        found = self.examples_of([row], last_alone=last_alone)[0]
        if isinstance(found, LabelError):
            raise found
        return found

    def examples_of(self, rows: Sequence[Row], *, last_alone: bool = False) -> list[list[Example] | LabelError]:
        """Do the same for many rows, with one call of the tokenizer; what `examples` raises is returned."""
        found: dict[int, list[Example] | LabelError] = {}
        chats: list[tuple[int, Conversation, tuple[int, ...]]] = []
        for number, row in enumerate(rows):
            try:
                if row.conversation and self.template.exists:
                    chats.append((number, row.conversation, learnt_turns(row.conversation, last_alone=last_alone)))
                elif row.conversation:
                    found[number] = self._without_template(row.conversation, last_alone=last_alone)
                else:
                    ids = self._text_ids(row.text)
                    found[number] = self._checked([Example(ids, list(ids))])
            except LabelError as error:
                found[number] = error
        texts: list[tuple[int, Conversation, list[LearntText]]] = []
        for (number, chat, _), turns in zip(
            chats, self._turns.find_all([(chat, turns) for _, chat, turns in chats]), strict=True
        ):
            if isinstance(turns, LabelError):
                found[number] = turns
            else:
                texts.append((number, chat, turns))
        encodings = iter(self._encoded([one.text for _, _, many in texts for one in many]))
        for number, chat, many in texts:
            try:
                made = [example for one in many for example in self._of_text(chat, one, next(encodings))]
                found[number] = self._fitting(chat, made)
            except LabelError as error:
                found[number] = error
        return [found[number] for number in range(len(rows))]

    def _fitting(self, chat: Conversation, made: list[Example]) -> list[Example]:
        said = sum(message.role == "assistant" for message in chat.messages)
        learnt = sum(one.turns_learnt for one in made)
        fitting = [one for one in made if one.tokens <= self.max_tokens]
        if self.too_long != "cut" or not fitting:
            made[0].turns_read = max(0, said - learnt)
            return self._checked(made)
        first, *others = self._checked(fitting)
        kept = sum(one.turns_learnt for one in fitting)
        cut = learnt + sum(one.turns_cut for one in made) - kept
        return [
            replace(first, turns_read=said - kept - cut, turns_cut=cut),
            *(replace(one, turns_cut=0) for one in others),
        ]

    def _of_text(self, chat: Conversation, text: LearntText, encoding: Any) -> list[Example]:
        ids: list[int] = encoding.ids
        labels = [IGNORE_INDEX] * len(ids)
        apart: list[Example] = []
        shared: list[tuple[LearntSpan, int]] = []  # with the number of tokens up to its end
        for span in text.spans:
            first, behind = _token_at(encoding, span.start, text.text), _token_at(encoding, span.end, text.text)
            begins = self._border_holds(encoding, ids, first, span.start, text.text)
            if begins and _ends_at(encoding, behind, span.end, text.text):
                labels[first:behind] = ids[first:behind]
                shared.append((span, behind))
            else:
                apart.append(self._apart(chat, text, span))
        if not shared:
            return apart
        cut = 0
        if self.too_long == "cut" and len(ids) > self.max_tokens:
            fitting = [(span, behind) for span, behind in shared if behind <= self.max_tokens]
            if fitting:
                cut, shared = len(shared) - len(fitting), fitting
                ids, labels = ids[: fitting[-1][1]], labels[: fitting[-1][1]]
        read = _up_to(chat, shared[-1][0].turn)
        return [Example(ids, labels, read, len(shared), turns_cut=cut), *apart]

    def _apart(self, chat: Conversation, text: LearntText, span: LearntSpan) -> Example:
        """Tokenise a turn's prompt and its answer separately."""
        prompt, answer = self._ids(text.text[: span.start]), text.text[span.start : span.end]
        learnt = self._ids_behind(LINE, answer) if self._spaced_behind_specials else None
        if learnt is None:
            learnt = self._ids_behind(self._anchor, answer)
        if learnt is None:
            learnt = self._ids(answer)
        read = _up_to(chat, span.turn)
        return Example([*prompt, *learnt], [IGNORE_INDEX] * len(prompt) + learnt, read, 1)

    def _ids_behind(self, before: str, answer: str) -> list[int] | None:
        """Return the tokens of an answer behind a text; None if a token spans their border.

        There, no tokenizer adds the space that it adds at the start of a text.
        """
        encoding = self._backend.encode(before + answer, add_special_tokens=False)
        first = _token_at(encoding, len(before), before + answer)
        split = _ends_at(encoding, first, len(before), before + answer)
        return list(encoding.ids[first:]) if split else None

    @cached_property
    def _spaced_behind_specials(self) -> bool:
        """Whether the tokenizer takes what follows a special token for the start of a text too, as Llama 2's does."""
        behind_line = self._ids_behind(LINE, "probe")
        return behind_line is not None and behind_line != self._ids_behind(self._anchor, "probe")

    def _border_holds(self, encoding: Any, ids: list[int], first: int, start: int, text: str) -> bool:
        """Return whether the tokens before an answer are those of the prompt alone.

        Only what follows the last special token can differ: text is split at special tokens before anything else.
        """
        token = first - 1
        while token > 0 and ids[token] not in self._added:
            token -= 1
        if token < 0:
            return start == 0
        begin = encoding.token_to_chars(token)[0] if token else 0
        tail = text[begin:start]
        alone = self._tails.get(tail)
        if alone is None:
            alone = self._ids(tail)
            if len(self._tails) < KEPT_TAILS and len(tail) <= LONGEST_TAIL:
                self._tails[tail] = alone
        return alone == ids[token:first]

    def _without_template(self, chat: Conversation, *, last_alone: bool) -> list[Example]:
        """Label the assistant's texts of a chat for a model without a chat template: each turn under its own prompt.

        The turns share no text, since an answer is learnt with the token that ends it, and the prompt of a later turn does not
        have that token.
        """
        for what, given in (("tools", chat.tools), ("documents", chat.documents)):
            if given:
                raise LabelError(f"its {what}: the model has no chat template, so it takes none")
        if any(message.tool_calls for message in chat.messages):
            raise LabelError("calls tools, and the model has no chat template to write calls with")
        texts: list[LearntText] = []
        for turn in learnt_turns(chat, last_alone=last_alone, first_too=True):
            prompt = self.template.prompt(replace(chat, messages=chat.messages[:turn]))
            said = chat.messages[turn]
            whole = prompt + (with_thought(said.thinking, said.content) if said.thinking else said.content)
            texts.append(LearntText(whole, (LearntSpan(len(prompt), len(whole), turn),)))
        encodings = self._encoded([one.text for one in texts])
        begin = self._begin_of_prompt
        end = [] if self.tokenizer.eos_token_id is None else [self.tokenizer.eos_token_id]
        made = [
            replace(
                one,
                input_ids=[*begin, *one.input_ids, *end],
                labels=[*[IGNORE_INDEX] * len(begin), *one.labels, *end],
            )
            for text, encoding in zip(texts, encodings, strict=True)
            for one in self._of_text(chat, text, encoding)
        ]
        return self._fitting(chat, made)

    @cached_property
    def _begin_of_prompt(self) -> list[int]:
        """The tokens that the tokenizer itself puts before a prompt that no template has written."""
        alone, ids = self._ids("probe"), self._backend.encode("probe").ids
        return next((ids[:at] for at in range(len(ids)) if ids[at : at + len(alone)] == alone), [])

    def _text_ids(self, text: str) -> list[int]:
        """Return the tokens of a text, with those that begin and end a text unless a template has written them already."""
        ids = self._ids(text)
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        rendered = any(special in text for special in self._specials)
        begun = bos is None or ids[:1] == [bos] or (rendered and not self._begins_with_bos)
        ended = eos is None or text.rstrip().endswith(self._ends)
        return [*([] if begun else [bos]), *ids, *([] if ended else [eos])]

    @cached_property
    def _begins_with_bos(self) -> bool:
        """Whether a prompt under the chat template begins with the token that begins a text."""
        if not self.template.exists:
            return True
        try:
            return self.template.prompt(Conversation.of(("user", "probe"))).startswith(self.tokenizer.bos_token)
        except RefusedByTemplateError:  # such as one that demands a system message
            return False

    @cached_property
    def _ends(self) -> tuple[str, ...]:
        """The tokens that end a text: those at which a server ends an answer, and the one that ends the template's turns."""
        known = {self.tokenizer.eos_token, *self.tokenizer.convert_ids_to_tokens(sorted(self.stops))}
        if self.template.exists:
            chat = Conversation.of(("user", "probe"), ("assistant", "probe"))
            try:
                written = self.template.render(self.template.messages(chat), chat, asking=False).rstrip()
            except RefusedByTemplateError:
                written = ""
            known |= {special for special in self._specials if written.endswith(special)}
        return tuple(token for token in known if token)

    def _checked(self, examples: list[Example]) -> list[Example]:
        longest = max(one.tokens for one in examples)
        if longest > self.max_tokens:
            what = "is" if len(examples) == 1 else "has a turn that, with its prompt, is"
            raise TooLongError(f"{what} {longest} tokens long, over data.max_tokens ({self.max_tokens})")
        if not any(one.labelled for one in examples):
            raise LabelError("has no token to train on: no assistant turn can be found in the rendered chat template")
        if self._without_embedding:
            for one in examples:
                unknown = self._without_embedding.keys() & set(one.input_ids)
                if unknown:
                    raise LabelError(
                        f"has {self._without_embedding[min(unknown)]!r}, a token that the tokenizer has and the model has not"
                    )
        return examples

    def _encoded(self, texts: list[str]) -> list[Encoding]:
        return self._encoder.encode_all(texts)

    def _ids(self, text: str) -> list[int]:
        return list(self._backend.encode(text, add_special_tokens=False).ids)


def learnt_turns(chat: Conversation, *, last_alone: bool = False, first_too: bool = False) -> tuple[int, ...]:
    """Return the indices of the assistant's messages that are learnt.

    Args:
        chat: a conversation.
        last_alone: only its last message.
        first_too: the first message too. No server can be asked for it, so under a chat template it is only read.

    Raises:
        LabelError: there is none.
    """
    turns = [
        turn
        for turn, message in enumerate(chat.messages)
        if message.role == "assistant" and message.learnt and (turn or first_too)
    ]
    if last_alone:
        turns = [turn for turn in turns if turn == len(chat.messages) - 1]
    if not turns:
        raise LabelError(
            "has no assistant message that is learned: each is marked as only read, or precedes any question"
        )
    return tuple(turns)


def teaches_to_stop(example: Example, stops: Collection[int]) -> bool:
    """Return whether a token at which the server ends an answer is learnt. For `stops`, see `stop_tokens`."""
    return any(token in example.labels for token in stops)


def no_end(tokenizer: Any, stops: Sequence[int]) -> str:
    """Return the warning that no row has such a token."""
    named = " or ".join(repr(token) for token in tokenizer.convert_ids_to_tokens(list(stops))) or "any token"
    return (
        f"no row teaches the model to stop: its chat template ends no turn with {named}, so answers may run to the maximum "
        "length"
    )


def _up_to(chat: Conversation, turn: int) -> Conversation:
    """Return a conversation up to a turn and with it."""
    return chat if turn + 1 == len(chat.messages) else replace(chat, messages=chat.messages[: turn + 1])


def _token_at(encoding: Any, character: int, text: str) -> int:
    """Return the index of the first token that begins at a character or behind it; the number of tokens if there is none."""
    for at in range(character, len(text)):
        token = encoding.char_to_token(at)
        if token is not None:
            return int(token)
    return len(encoding)


def _ends_at(encoding: Any, behind: int, end: int, text: str) -> bool:
    """Return whether the token before `behind` ends at a character: what is between, if anything, is spaces without a place.

    Where a token goes on behind the end of an answer, its last characters are in no token that is the answer's own.
    """
    if not behind:
        return False
    last: int = encoding.token_to_chars(behind - 1)[1]
    return last == end or (last < end and not text[last:end].strip())
