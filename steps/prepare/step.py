"""The prepare step: turns rows into labelled tokens, stored under a digest of everything that they depend on."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy
from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from recipes.data import Data
from recipes.recipe import Recipe
from steps.common.gguf.tokenizers import read_gguf_tokenizer
from steps.common.handover.covered_settings import covered_settings
from steps.common.handover.report import STEP_REPORT, PreparedRecord, read_step_report
from steps.common.handover.report_parts import PreparedSource
from steps.common.handover.resolved import DataSource, Resolved
from steps.common.lm_eval.library import check_installed
from steps.common.model.prepared_rows import TRAIN, VALIDATION, write_rows
from steps.common.model.stop_tokens import published_stop_tokens, stop_tokens
from steps.common.rows.row_kinds import objective_key
from steps.common.runtime.errors import UserError
from steps.common.runtime.exit_codes import step
from steps.common.runtime.progress import say
from steps.common.runtime.waiting import WaitingLine
from steps.common.storage import volumes
from steps.common.storage.files import build_folder, digest_of, exclusive_lock, folder_digest
from steps.prepare.chosen_rows import chosen_tables, with_conversations
from steps.prepare.example_index import BadRows, ExampleIndex, read_index
from steps.prepare.labelled_table import TableLabelling
from steps.prepare.labels import Labeller, no_end
from steps.prepare.map_rows import label_pieces
from steps.prepare.mixture import draw
from steps.prepare.raw_pieces import SourceFiles, write_pieces
from steps.prepare.split import split

FORMAT = 2  # of the files written here; raise it when the same settings, or a changed default, result in others


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
            **({"chat": resolved.chat.template_arguments} if resolved.chat.template_arguments else {}),
            **objective_key(resolved.recipe.tune.objective),
        }
    )


def in_words(report: PreparedRecord) -> str:
    """Return the summary of the rows as one line."""
    parts = [report.turns_in_words, *(source.in_words for source in report.sources), report.ignored_in_words]
    return (
        f"{report.train_rows} training rows ({report.train_tokens} tokens, {report.labelled_share:.0%} labelled), "
        f"{report.validation_rows} held out; left out: {report.bad_rows} bad, {report.duplicates} duplicates, "
        f"{report.leaked} with the question of a held-out row"
        + (f", {report.too_long_rows} too long" if report.too_long_rows else "")
        + "".join(f"; {part}" for part in parts if part)
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
    stops = stop_tokens(tokenizer, published_stop_tokens(tokenizer_folder), resolved.chat.end_of_turn)
    labeller = Labeller(
        tokenizer,
        recipe.data.max_tokens,
        resolved.chat.template_arguments,
        recipe.data.too_long,
        resolved.model.architecture.vocabulary,
        stops,
    )
    files = SourceFiles(resolved.data.train, resolved.data.validation)
    labelling = TableLabelling(labeller, files, recipe.tune.objective, recipe.tune.seed)
    with build_folder(folder) as building:
        work = building / "pieces"
        work.mkdir()
        index = read_index(
            label_pieces(write_pieces(files.records(), work), labelling, files.progress()),
            files,
            building / "bad_rows.txt",
        )
        _judge(index.bad, recipe.data)
        chosen = _choose(index, resolved, [] if index.teaches_to_stop else [no_end(tokenizer, stops)])
        write_rows(building / TRAIN, chosen_tables(index, chosen.train))
        write_rows(building / VALIDATION, with_conversations(index, chosen.validation))
        shutil.rmtree(work)
        for warning in chosen.report.warnings:
            say(f"warning: {warning}")
        (building / STEP_REPORT).write_text(chosen.report.model_dump_json(indent=2) + "\n")
        say(f"rows {folder_digest(building)[:12]}: {in_words(chosen.report)}")


@dataclass(frozen=True)
class _Chosen:
    """The examples of both sides by their indices, those of a mixture repeated, and what is reported of them."""

    train: numpy.ndarray
    validation: numpy.ndarray
    report: PreparedRecord


def _choose(index: ExampleIndex, resolved: Resolved, warnings: list[str]) -> _Chosen:
    """Remove duplicates and leaked rows, hold rows out, and draw the mixture.

    Raises:
        UserError: too few rows are left.
    """
    data, sources = resolved.recipe.data, resolved.data.train
    given = index.rows(range(len(sources)))
    held_out = index.rows(range(len(sources), len(sources) + len(resolved.data.validation)))
    for name, rows in (("train", given), ("validation", held_out)):
        if not len(rows) and (name == "train" or resolved.data.validation):
            raise UserError(f"data.{name}: none of its rows can be used")
    parts = split(index.keys(given), index.keys(held_out), data.validation_share)
    train = given[parts.train]
    validation = (held_out if resolved.data.validation else given)[parts.validation]
    times = draw(sources, index.columns["source"][train], index.columns["content_high"][train])
    seen = index.examples(train, times)
    tokens = index.tokens[seen]
    rows = numpy.repeat(train, times)
    report = PreparedRecord(
        train_rows=len(rows),
        validation_rows=len(validation),
        bad_rows=index.bad.count,
        duplicates=parts.duplicates,
        leaked=parts.leaked,
        train_tokens=int(tokens.sum()),
        longest=int(tokens.max()),
        labelled_share=int(index.columns["labelled"][seen].sum()) / int(tokens.sum()),
        turns_learnt=int(index.columns["turns_learnt"][seen].sum()),
        turns_read=int(index.columns["turns_read"][seen].sum()),
        turns_cut=int(index.columns["turns_cut"][seen].sum()),
        too_long_rows=index.bad.too_long,
        warnings=warnings,
        sources=_of_sources(index, sources, rows, seen, tokens) if len(sources) > 1 else [],
        ignored=dict(index.ignored.most_common()),
    )
    return _Chosen(seen, index.examples(validation), report)


def _of_sources(
    index: ExampleIndex, sources: list[DataSource], rows: numpy.ndarray, seen: numpy.ndarray, tokens: numpy.ndarray
) -> list[PreparedSource]:
    of_row, of_example = index.columns["source"][rows], index.columns["source"][seen]
    return [
        PreparedSource(
            source=source.in_words,
            rows=int((of_row == number).sum()),
            tokens=int(tokens[of_example == number].sum()),
            weight=source.weight if source.share is None else None,
            share=source.share,
        )
        for number, source in enumerate(sources)
    ]


def _judge(bad: BadRows, data: Data) -> None:
    for row in bad.first:
        say(f"bad row: {row}")
    if bad.count > len(bad.first):
        say(f"and {bad.count - len(bad.first)} more bad rows")
    if bad.count and data.on_bad_row == "stop":
        more = f" (and {bad.count - 1} more bad rows)" if bad.count > 1 else ""
        raise UserError(f"{bad.first[0]}{more}; fix the row, or set data.on_bad_row=skip")
