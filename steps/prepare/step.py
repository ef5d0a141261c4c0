"""The prepare step: turns rows into labelled tokens, stored under a digest of everything that they depend on."""

import json
from pathlib import Path
from typing import Annotated, Any

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from recipes.data import Data
from recipes.recipe import Recipe
from steps.common.gguf.tokenizers import read_gguf_tokenizer
from steps.common.handover.covered_settings import covered_settings
from steps.common.handover.report import STEP_REPORT, PreparedRecord, read_step_report
from steps.common.handover.resolved import DataSource, Resolved, as_planned
from steps.common.lm_eval.library import check_installed
from steps.common.rows.read_rows import read_rows
from steps.common.rows.row import BadRow, Row
from steps.common.rows.row_kinds import check_kind, objective_key
from steps.common.runtime.errors import UserError
from steps.common.runtime.exit_codes import step
from steps.common.runtime.progress import Progress, say
from steps.common.runtime.waiting import WaitingLine
from steps.common.storage import volumes
from steps.common.storage.files import build_folder, digest_of, exclusive_lock, folder_digest
from steps.prepare.label_pairs import labelled_example
from steps.prepare.labels import Example, LabelError
from steps.prepare.split import split

FORMAT = 2  # of the files written here; raise it when the same settings, or a changed default, result in others
SHOWN = 20


class PrepareInput(Input):
    """The rows, and the tokenizer for them."""

    resolved: Resolved
    tokenizer_folder: Annotated[str, Parameter(description="Folder of the base model's tokenizer")]


class PrepareOutput(Output):
    """The folder of the tokens, and a summary of the rows."""

    folder: str
    digest: str
    summary: str


@step
def prepare(input: PrepareInput) -> PrepareOutput:
    """Validate, deduplicate, split, tokenise and label the rows.

    Raises:
        UserError: a row cannot be used and `data.on_bad_row` is "stop"; too few rows are left; the tokenizer cannot be
            written as GGUF; or a task of lm-eval needs lm-eval or a chat template, which is missing.
    """
    resolved, tokenizer_folder = input.resolved, Path(input.tokenizer_folder)
    if resolved.recipe.export.gguf != "none":
        read_gguf_tokenizer(tokenizer_folder)  # here, before the tuning costs anything
    if resolved.lm_eval:
        check_installed("evaluate.lm_eval")  # likewise: the same image evaluates
        _check_chat_template(resolved.recipe, tokenizer_folder)
    digest = rows_digest(resolved)
    folder = volumes.prepared_rows(digest)
    line = WaitingLine()
    with exclusive_lock(folder, on_wait=lambda: line.report("the process that prepares the same rows")):
        if folder.exists():
            say("the rows are already prepared")
        else:
            _prepare(resolved, tokenizer_folder, folder)
    report = read_step_report(PreparedRecord, folder)
    return PrepareOutput(folder=str(folder), digest=digest, summary=in_words(report))


def rows_digest(resolved: Resolved) -> str:
    """Return a digest of everything that the prepared rows depend on."""
    covered = covered_settings(resolved.recipe)
    return digest_of(
        {
            "format": FORMAT,
            "data": resolved.data.content,
            "wanted": covered["data"],
            "seed": covered["tune"]["seed"],
            "model": resolved.model.digest,
            **objective_key(resolved.recipe.tune.objective),
        }
    )


def in_words(report: PreparedRecord) -> str:
    """Return the summary of the rows as one line."""
    return (
        f"{report.train_rows} training rows ({report.train_tokens} tokens, {report.labelled_share:.0%} labelled), "
        f"{report.validation_rows} held out; left out: {report.bad_rows} bad, {report.duplicates} duplicates, "
        f"{report.leaked} with the question of a held-out row"
    )


def _check_chat_template(recipe: Recipe, tokenizer_folder: Path) -> None:
    """Refuse tasks of lm-eval with a chat template if the model has none."""
    under_it = [number for number, task in enumerate(recipe.evaluate.lm_eval) if task.chat_template]
    if not under_it:
        return
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    try:
        tokenizer.get_chat_template()
    except ValueError:
        raise UserError(
            f"evaluate.lm_eval.{under_it[0]}: chat_template: this model has none; set it to false, or choose a model with a "
            "chat template"
        ) from None


def _prepare(resolved: Resolved, tokenizer_folder: Path, folder: Path) -> None:
    from transformers import AutoTokenizer

    recipe = resolved.recipe
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    bad: list[BadRow] = []
    examples: dict[Row, Example] = {}
    train = _read(resolved.data.train, tokenizer, recipe, examples, bad)
    held_out = resolved.data.validation
    held = _read(held_out, tokenizer, recipe, examples, bad) if held_out else []
    _judge(bad, recipe.data)
    for name, rows in (("train", train), ("validation", held)):
        if not rows and (name == "train" or held_out):
            raise UserError(f"data.{name}: none of its rows can be used")
    _check_stop_token(examples, tokenizer)
    parts = split(train, held, recipe.data.validation_share, recipe.tune.seed)
    with build_folder(folder) as partial:
        _write(partial / "train.jsonl", parts.train, examples)
        _write(partial / "validation.jsonl", parts.validation, examples)
        (partial / "bad_rows.txt").write_text("".join(f"{row}\n" for row in bad))
        tokens = [examples[row].tokens for row in parts.train]
        learnt = sum(examples[row].labelled for row in parts.train)
        report = PreparedRecord(
            train_rows=len(parts.train),
            validation_rows=len(parts.validation),
            bad_rows=len(bad),
            duplicates=parts.duplicates,
            leaked=parts.leaked,
            train_tokens=sum(tokens),
            longest=max(tokens),
            labelled_share=learnt / sum(tokens),
        )
        (partial / STEP_REPORT).write_text(report.model_dump_json(indent=2) + "\n")
        say(f"rows {folder_digest(partial)[:12]}: {in_words(report)}")


def _read(
    sources: list[DataSource],
    tokenizer: Any,
    recipe: Recipe,
    examples: dict[Row, Example],
    bad: list[BadRow],
) -> list[Row]:
    """Return the rows of the sources; add their tokens to `examples`, and the rows that cannot be used to `bad`."""
    files = [as_planned(file) for source in sources for file in source.files]
    progress = Progress(0, f"rows of {files[0].name}" if len(files) == 1 else f"rows of {len(files)} files")
    rows = []
    for number, found in enumerate((row for file in files for row in read_rows(file)), 1):
        progress.update(number)
        if isinstance(found, BadRow):
            bad.append(found)
            continue
        place, row = found
        check_kind(place, row, recipe.tune.objective)
        try:
            examples[row] = labelled_example(row, tokenizer, recipe.data.max_tokens)
        except LabelError as error:
            bad.append(BadRow(place, str(error)))
        else:
            rows.append(row)
    return rows


def _judge(bad: list[BadRow], data: Data) -> None:
    for row in bad[:SHOWN]:
        say(f"bad row: {row}")
    if len(bad) > SHOWN:
        say(f"and {len(bad) - SHOWN} more bad rows")
    if bad and data.on_bad_row == "stop":
        more = f" (and {len(bad) - 1} more bad rows)" if len(bad) > 1 else ""
        raise UserError(f"{bad[0]}{more}; fix the row, or set data.on_bad_row=skip")


def _check_stop_token(examples: dict[Row, Example], tokenizer: Any) -> None:
    """Warn if no row contains the token at which the server stops: the model's answers would not end."""
    if not any(tokenizer.eos_token_id in example.labels for example in examples.values()):
        say(
            f"warning: no row teaches the model to stop: its chat template ends no turn with {tokenizer.eos_token!r}, "
            "so answers may run to the maximum length"
        )


def _write(path: Path, rows: list[Row], examples: dict[Row, Example]) -> None:
    with path.open("w", encoding="utf-8") as out:
        for row in rows:
            line: dict[str, Any] = {"text": row.text, **examples[row].model_dump()}
            if row.conversation:
                line["conversation"] = row.conversation.to_json()
            if row.rejected and row.conversation:
                line["rejected"]["conversation"] = row.conversation.answered(row.rejected).to_json()
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
