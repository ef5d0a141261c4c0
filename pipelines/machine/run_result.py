"""The result of a run: as data for scripts, and in words with the next commands for people."""

import json
import shlex
from pathlib import Path

from pydantic import BaseModel, Field
from rich.console import Console
from rich.table import Table

from pipelines.machine.run_record import LOG, Run
from pipelines.shown.shell_command import shell_command
from pipelines.shown.task_state import Phase
from steps.common.handover.report import EvaluationReport, read_report
from steps.common.handover.resolved import Resolved
from steps.common.machine import servers
from steps.common.runtime.errors import GATE_REFUSED, INTERRUPTED
from steps.common.runtime.progress import duration

WIDEST = 60  # characters of a column
LONGEST_ANSWER = 240  # characters


def _is_empty(value: object) -> bool:
    return value is None or value == ""


class RunResult(BaseModel):
    """The result of a run, as far as it got; its JSON leaves out what the run did not get to."""

    run: str
    phase: str
    exit_code: int
    message: str
    model: str = Field(default="", exclude_if=_is_empty)
    base: str = Field(default="", exclude_if=_is_empty)
    tracking_uri: str = Field(default="", exclude_if=_is_empty)
    adapter_folder: str = Field(default="", exclude_if=_is_empty)
    verdict: str = Field(default="", exclude_if=_is_empty)
    evaluation: EvaluationReport | None = Field(default=None, exclude_if=_is_empty)
    evaluation_file: str = Field(default="", exclude_if=_is_empty)
    version: int | None = Field(default=None, exclude_if=_is_empty)
    new_version: bool | None = Field(default=None, exclude_if=_is_empty)
    exported_merged: str = Field(default="", exclude_if=_is_empty)
    exported_gguf: str = Field(default="", exclude_if=_is_empty)
    url: str = Field(default="", exclude_if=_is_empty)


def result_of(run: Run) -> RunResult:
    """Return the result of a run, as far as it got.

    Raises:
        UserError: the evaluation's report cannot be read.
    """
    result = RunResult(run=run.name, phase=run.phase.value, exit_code=run.exit_code, message=run.message)
    if plan := run.outputs("plan").get("resolved"):
        resolved = Resolved.read(plan, f"run {run.name}: its plan")
        result.model, result.base = resolved.recipe.name, resolved.model.uri
        result.tracking_uri = resolved.tracking.uri
    result.adapter_folder = run.outputs("tune").get("adapter_folder", "")
    evaluated = run.outputs("evaluate")
    if evaluated.get("report"):
        result.verdict, result.evaluation_file = evaluated["verdict"], evaluated["report"]
        result.evaluation = read_report(Path(evaluated["report"]))
    registered = run.outputs("register")
    if registered.get("version"):
        result.version, result.new_version = int(registered["version"]), registered["new"] == "true"
    exported = run.outputs("export")
    result.exported_merged, result.exported_gguf = exported.get("merged", ""), exported.get("gguf", "")
    result.url = run.outputs("rollout").get("url", "")
    return result


def show_result(run: Run, result: RunResult) -> None:
    """Print the result for a person."""
    console = Console(highlight=False, soft_wrap=False)
    if result.evaluation:
        _scores(console, result.evaluation)
        _answers(console, result.evaluation)
    if run.phase is not Phase.SUCCEEDED:
        _unfinished(console, run)
        return
    say = _Sayer(console)
    state = "registered" if result.new_version else "unchanged, already registered"
    say(f"{result.model} version {result.version}: {state}, champion in {result.tracking_uri}")
    if result.exported_merged:
        say(f"exported as a transformers model: {result.exported_merged}")
    if result.exported_gguf:
        say(f"exported for llama.cpp, Ollama and LM Studio: {result.exported_gguf}")
    if result.url:
        say(f"served at {result.url}; try it:")
        say(f"  {curl(result.url, result.model, _first_question(result.evaluation))}")
        say(f"stop it: {shell_command('fineline serving stop ' + result.model)}")
    say(f"registry: {shell_command('mlflow ui --backend-store-uri ' + result.tracking_uri)}")


class _Sayer:
    """Prints lines unwrapped and without styles, so that the commands in them can be copied."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __call__(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)


def curl(url: str, model: str, question: str) -> str:
    """Return a curl command that asks the model the question."""
    body = {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 64, "temperature": 0}
    return f"curl -s {url}/chat/completions -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}"


def _first_question(evaluation: EvaluationReport | None) -> str:
    return evaluation.answers[0].asked if evaluation and evaluation.answers else "Hello"


def _unfinished(console: Console, run: Run) -> None:
    say = _Sayer(console)
    resume = shell_command(f"fineline run --resume {run.name}")
    if run.phase is Phase.INTERRUPTED:
        say(f"stopped; continue with: {resume}")
        return
    refused = run.exit_code == GATE_REFUSED
    step = run.message.partition(":")[0]
    say(f"{'refused' if refused else 'failed'}: {run.message}")
    say(f"log: {run.task_folder(step) / LOG}")
    if run.exit_code == INTERRUPTED:
        say(f"what is done is kept; try it again with: {resume}")
    elif not refused:
        say(f"once it is fixed, continue with: {resume}")


def _scores(console: Console, evaluation: EvaluationReport) -> None:
    table = Table(title=f"held-out rows, {evaluation.evaluated}", title_justify="left")
    pairs = ["pairs preferred"] if evaluation.has_preferences else []
    for column in ("model", "loss", "perplexity", "token accuracy", *pairs):
        table.add_column(column, justify="left" if column == "model" else "right")
    for role, scores in evaluation.scores.items():
        cells = [f"{scores.loss:.3f}", f"{scores.perplexity:.2f}", f"{scores.accuracy:.1%}"]
        table.add_row(role, *cells, *([scores.preference_in_words] if pairs else []))
    console.print(table)
    for reason in evaluation.reasons:
        console.print(reason, markup=False, soft_wrap=True)


def _answers(console: Console, evaluation: EvaluationReport) -> None:
    table = Table(title="the same questions, before and after", title_justify="left", show_lines=True)
    for column in ("question", "before", "after"):
        table.add_column(column, max_width=WIDEST)
    for answer in evaluation.answers:
        table.add_row(answer.asked, _short(answer.base), _short(answer.candidate))
    console.print(table)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_ANSWER else line[: LONGEST_ANSWER - 1] + "…"


def served_line(gateway: servers.Gateway, server: servers.Server | None, now: float) -> tuple[str, ...]:
    """Return a row of `fineline serving`: model, version, URL, how long the server has been up."""
    if server is None:
        return gateway.name, "-", gateway.url, "its model server is not running"
    return gateway.name, str(server.version), gateway.url, f"up {duration(now - server.process.started)}"
