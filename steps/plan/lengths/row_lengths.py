"""How many rows are longer than `data.max_tokens`: a sample of them is tokenised before anything is bought.

This takes the tokenizer, which is there if the model has been fetched before or is a folder, and the packages tokenizers and
jinja2. It does without transformers, whose import takes longer than the rest of a plan.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from recipes.data import Data
from steps.common.handover.resolved import ResolvedChat
from steps.common.model.chat_template import ChatTemplate, RefusedByTemplateError
from steps.common.rows.read_rows import read_rows
from steps.common.rows.row import BadRow, Row
from steps.common.runtime.errors import UserError, first_line
from steps.common.weights import store
from steps.common.weights.sources.folder import folder_of
from steps.plan.lengths.template_renderer import read_renderer

SAMPLE, EVERY = 200, 10  # rows, spread over ten times as many
PACKAGES = ("tokenizers", "jinja2")
END_TOKENS = 8  # that a template may write behind an answer, at most; they need not fit


class CannotCountError(Exception):
    """The rows cannot be counted here; the text says why."""


@dataclass(frozen=True)
class RowLengths:
    """The lengths of a sample of rows, in tokens. A pair has the length of its longer side."""

    rows: int
    too_long: int
    longest: int
    uncut: int  # of those that are too long: `too_long: cut` cannot shorten them
    refused: int  # rows that the chat template cannot render, beside `rows`


def check_lengths(data: Data, files: Iterable[Path], model: str, chat: ResolvedChat) -> str:
    """Return a line that says how many rows are too long, or why that is not known.

    Args:
        data: the recipe's part.
        files: of training rows.
        model: URI of the base model.
        chat: how the model is asked.

    Raises:
        UserError: rows are too long, and the recipe stops at such a row.
    """
    key = f"data.max_tokens ({data.max_tokens})"
    try:
        folder = _tokenizer_folder(model)
        found = lengths(_sample(list(files)), folder, data.max_tokens, chat)
    except CannotCountError as reason:
        never = "; plain texts and pairs are never cut: a long one is a bad row" if data.too_long == "cut" else ""
        return f"rows over {key}: not counted, since {reason}{never}"
    refused = f"; {found.refused} could not be rendered" if found.refused else ""
    if not found.too_long:
        return f"rows over {key}: none of {found.rows} in a sample; the longest has {found.longest} tokens{refused}"
    share = found.too_long / found.rows
    counted = (
        f"{found.too_long} of {found.rows} in a sample ({share:.1%}); the longest has {found.longest} tokens{refused}"
    )
    stops = data.on_bad_row == "stop"
    if data.too_long == "stop" and stops:
        raise UserError(
            f"data.max_tokens: {counted}, and the limit is {data.max_tokens}; raise it, or set data.too_long to cut (between "
            "turns) or skip"
        )
    if data.too_long == "cut" and stops and found.uncut:
        raise UserError(
            f"data.max_tokens: {counted}, and the limit is {data.max_tokens}; data.too_long=cut cannot shorten {found.uncut}: "
            "plain texts, pairs, and chats whose first answer does not fit; raise the limit, or set data.too_long=skip"
        )
    cut = found.too_long - found.uncut if data.too_long == "cut" else 0
    done = [f"{cut} are cut between turns"] * bool(cut) + [f"{found.too_long - cut} are left out"] * (
        cut < found.too_long
    )
    return f"rows over {key}: {counted}; {', '.join(done)}"


def lengths(rows: list[Row], folder: Path, max_tokens: int, chat: ResolvedChat) -> RowLengths:
    """Return the lengths of rows under the chat template in a tokenizer's folder.

    Raises:
        CannotCountError: the tokenizer cannot be read, or its template renders none of the rows.
    """
    try:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_truncation()
        template = ChatTemplate(read_renderer(folder), chat.template_arguments)
    except Exception as error:  # tokenizers raises nothing more special
        raise CannotCountError(f"the model's tokenizer cannot be read here: {first_line(error)}") from None
    texts: list[list[str]] = []
    rendered: list[Row] = []
    why = ""
    for row in rows:
        try:
            texts.append([_text(template, reading) for reading in row.readings])
            rendered.append(row)
        except RefusedByTemplateError as error:  # a bad row, which `prepare` reports
            why = str(error)
    if not rendered:
        raise CannotCountError(
            f"the model's chat template cannot be rendered here: {why}" if why else "no row was read"
        )
    found = _longest(tokenizer, texts)
    long = [row for row, tokens in zip(rendered, found, strict=True) if tokens > max_tokens]
    heads = [head for row in long if (head := _first_answer(template, row))]
    cut = sum(tokens - END_TOKENS <= max_tokens for tokens in _longest(tokenizer, [[head] for head in heads]))
    return RowLengths(len(found), len(long), max(found), len(long) - cut, len(rows) - len(rendered))


def _text(template: ChatTemplate, row: Row) -> str:
    chat = row.conversation
    if not chat or not template.exists:
        return row.content
    return template.render(template.messages(chat), chat, asking=False)


def _first_answer(template: ChatTemplate, row: Row) -> str:
    """Return a conversation up to its first answer, which is what `cut` leaves at least; empty if the row is never cut."""
    chat = row.conversation
    if not chat or row.rejected or not template.exists:
        return ""
    end = next((at for at, one in enumerate(chat.messages, 1) if one.role == "assistant" and one.learnt), 0)
    head = replace(chat, messages=chat.messages[:end])
    try:
        return _text(template, Row(head))
    except RefusedByTemplateError:  # not known: as long as nothing, so that the row is not refused
        return " "


def _longest(tokenizer: Any, texts: list[list[str]]) -> list[int]:
    """Return the tokens of the longest text of each list."""
    encoded = iter(tokenizer.encode_batch([one for many in texts for one in many], add_special_tokens=False))
    return [max(len(next(encoded).ids) for _ in many) for many in texts]


def _sample(files: list[Path]) -> list[Row]:
    """Return rows that are spread over the beginnings of the files; of many files, over some."""
    chosen = files[:: 1 + len(files) // SAMPLE]
    heads = (islice(read_rows(path), max(1, SAMPLE * EVERY // len(chosen))) for path in chosen)
    good = [found[1] for head in heads for found in head if not isinstance(found, BadRow)]
    return good[:: 1 + len(good) // SAMPLE]


def _tokenizer_folder(model: str) -> Path:
    """Return a folder with the tokenizer.json of the model at a URI.

    Raises:
        CannotCountError: there is none on this machine, or it cannot be used here.
    """
    own = [folder_of(model)] if model.startswith("file://") else []
    folders = [*own, *(folder for folder, _ in store.folders_of(model) if store.intact(folder))]
    found = next((folder for folder in folders if (folder / "tokenizer.json").is_file()), None)
    if found is None:
        raise CannotCountError("the model's tokenizer.json is not on this machine")
    if missing := [package for package in PACKAGES if find_spec(package) is None]:
        raise CannotCountError(f"the Python package {' and '.join(missing)} is not installed here (extra `tune`)")
    return found
