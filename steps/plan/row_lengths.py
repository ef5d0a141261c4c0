"""How many rows are longer than `data.max_tokens`: a sample of them is tokenised before anything is bought.

This takes the tokenizer, which is there if the model has been fetched before or is a folder, and the packages tokenizers and
jinja2. It does without transformers, whose import takes longer than the rest of a plan.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from recipes.data import Data
from steps.common.handover.resolved import ResolvedChat
from steps.common.rows.read_rows import read_rows
from steps.common.rows.row import BadRow, Row
from steps.common.runtime.errors import UserError
from steps.common.storage import volumes
from steps.common.weights import store

SAMPLE, EVERY = 200, 10  # rows, spread over ten times as many
PACKAGES = ("tokenizers", "jinja2")


@dataclass(frozen=True)
class RowLengths:
    """The lengths of a sample of rows, in tokens."""

    rows: int
    too_long: int
    longest: int


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
    folder = _tokenizer_folder(model)
    if not folder or any(find_spec(package) is None for package in PACKAGES):
        where = "in this image" if folder else "on this machine yet"
        return f"rows over {key}: not counted, since the model's tokenizer is not {where}"
    found = lengths(_sample(list(files)), folder, data.max_tokens, chat)
    if found is None:
        return f"rows over {key}: not counted, since the model's chat template cannot be rendered here"
    if not found.too_long:
        return f"rows over {key}: none of {found.rows} in a sample; the longest has {found.longest} tokens"
    share = found.too_long / found.rows
    counted = f"{found.too_long} of {found.rows} in a sample ({share:.1%}); the longest has {found.longest} tokens"
    if data.too_long == "stop" and data.on_bad_row == "stop":
        raise UserError(
            f"data.max_tokens: {counted}, and the limit is {data.max_tokens}; raise it, or set data.too_long to cut (between "
            "turns) or skip"
        )
    return (
        f"rows over {key}: {counted}; {'they are cut between turns' if data.too_long == 'cut' else 'they are left out'}"
    )


def lengths(rows: list[Row], folder: Path, max_tokens: int, chat: ResolvedChat) -> RowLengths | None:
    """Return the lengths of rows under the chat template in a tokenizer's folder; None if it cannot be rendered here."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    template = _template(folder)
    texts: list[str] = []
    for row in rows:
        for reading in row.readings:
            if not reading.conversation or not template:
                texts.append(reading.content)
                continue
            try:
                texts.append(_rendered(template, reading, chat))
            except Exception:  # a row that the template refuses is a bad row, which `prepare` reports
                continue
    if not texts:
        return None
    found = [len(encoding.ids) for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    return RowLengths(len(found), sum(tokens > max_tokens for tokens in found), max(found))


def _rendered(template: Any, row: Row, chat: ResolvedChat) -> str:
    assert row.conversation
    given = {name: json.loads(text) if text else None for name, text in _beside(row).items()}
    return str(template.render(messages=row.conversation.for_template(), **given, **chat.template_arguments))


def _beside(row: Row) -> dict[str, str]:
    assert row.conversation
    return {"tools": row.conversation.tools, "documents": row.conversation.documents}


def _sample(files: list[Path]) -> list[Row]:
    """Return rows that are spread over the beginnings of the files; of many files, over some."""
    chosen = files[:: 1 + len(files) // SAMPLE]
    heads = (islice(read_rows(path), max(1, SAMPLE * EVERY // len(chosen))) for path in chosen)
    good = [found[1] for head in heads for found in head if not isinstance(found, BadRow)]
    return good[:: 1 + len(good) // SAMPLE]


def _tokenizer_folder(model: str) -> Path | None:
    """Return a folder with the tokenizer.json of the model at a URI; None if there is none on this machine."""
    own = [Path(model.removeprefix("file://"))] if model.startswith("file://") else []
    published = [file.parent for file in volumes.weights().glob(f"*/*/{store.MANIFEST}")]
    folders = [*own, *(one for one in published if store.read_manifest(one).get("uri") == model and store.intact(one))]
    return next((folder for folder in folders if (folder / "tokenizer.json").is_file()), None)


def _template(folder: Path) -> Any:
    """Return the chat template in a tokenizer's folder, ready to be rendered; None if there is none."""
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    config = _read_json(folder / "tokenizer_config.json")
    file = folder / "chat_template.jinja"
    source = file.read_text(encoding="utf-8") if file.is_file() else config.get("chat_template")
    if isinstance(source, list):  # several, by name
        source = {one["name"]: one["template"] for one in source}.get("default")
    if not source:
        return None
    # As transformers renders it.
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    environment.globals["raise_exception"] = _refuse
    specials = {name: value.get("content") if isinstance(value, dict) else value for name, value in config.items()}
    environment.globals.update({name: value for name, value in specials.items() if name.endswith("_token")})
    return environment.from_string(source)


def _refuse(message: str) -> str:
    raise ValueError(message)


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
