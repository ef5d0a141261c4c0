"""What a run came to: as data for scripts, and in words with the next commands for people."""

import json
import shlex
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipelines.machine.run_record import LOG, Run
from pipelines.shown.shell_command import shell_command
from pipelines.shown.task_state import Phase
from steps.common.handover.resolved import Resolved
from steps.common.machine import servers
from steps.common.runtime.progress import duration
from steps.evaluate.report.page import preferred

WIDEST = 60
EXPORTED = {"merged": "a transformers model", "gguf": "for llama.cpp, Ollama, LM Studio"}


def result_of(run: Run) -> dict[str, Any]:
    """Return what a run came to, as far as it went."""
    result: dict[str, Any] = {
        "run": run.name,
        "phase": run.phase.value,
        "exit_code": run.exit_code,
        "message": run.message,
    }
    plan, judged = run.outputs("plan"), run.outputs("evaluate")
    if plan.get("resolved"):
        resolved = Resolved.model_validate_json(plan["resolved"])
        result |= {"model": resolved.recipe.name, "base": resolved.model.uri, "tracking_uri": resolved.tracking.uri}
    result |= {
        name: run.outputs(task)[name] for task, name in (("tune", "adapter_folder"),) if run.outputs(task).get(name)
    }
    if judged.get("report"):
        report = json.loads(Path(judged["report"]).read_text())
        result |= {"verdict": judged["verdict"], "evaluation": report, "evaluation_file": judged["report"]}
    if run.outputs("register").get("version"):
        registered = run.outputs("register")
        result |= {"version": int(registered["version"]), "new_version": registered["new"] == "true"}
    result |= {f"exported_{what}": path for what, path in run.outputs("export").items() if what in EXPORTED and path}
    if run.outputs("rollout").get("url"):
        result |= {"url": run.outputs("rollout")["url"]}
    return result


def show_result(run: Run, result: dict[str, Any]) -> None:
    """Print it for a person."""
    console = Console(highlight=False, soft_wrap=False)
    if "evaluation" in result:
        _scores(console, result["evaluation"])
        _answers(console, result["evaluation"])
    if run.phase is not Phase.SUCCEEDED:
        _unfinished(console, run)
        return
    say = _Sayer(console)
    state = "registered" if result["new_version"] else "unchanged, registered already"
    say(f"{result['model']} version {result['version']}: {state}, champion in {result['tracking_uri']}")
    for what, of_whom in EXPORTED.items():
        if path := result.get(f"exported_{what}"):
            say(f"exported, {of_whom}: {path}")
    if "url" in result:
        say(f"served at {result['url']}; try it:")
        say(f"  {curl(result['url'], result['model'], _first_question(result))}")
        say(f"stop it: {shell_command('fineline serving stop ' + result['model'])}")
    say(f"registry: {shell_command('mlflow ui --backend-store-uri ' + result['tracking_uri'])}")


class _Sayer:
    """Prints lines as they are: commands are there to be copied, so nothing wraps or styles them."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __call__(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)


def curl(url: str, model: str, question: str) -> str:
    """Return the line with which a person asks the model that question."""
    body = {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 64, "temperature": 0}
    return f"curl -s {url}/chat/completions -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}"


def _first_question(result: dict[str, Any]) -> str:
    answers = result["evaluation"]["answers"]
    return str(answers[0]["asked"]) if answers else "Hello"


def _unfinished(console: Console, run: Run) -> None:
    say = _Sayer(console)
    if run.phase is Phase.INTERRUPTED:
        say(f"stopped; go on with: {shell_command(f'fineline run --resume {run.name}')}")
        return
    step = run.message.partition(":")[0]
    say(f"{'refused' if run.exit_code == 3 else 'failed'}: {run.message}")
    say(f"log: {run.task_folder(step) / LOG}")
    if run.exit_code != 3:
        say(f"when that is mended: {shell_command(f'fineline run --resume {run.name}')}")


def _scores(console: Console, evaluation: dict[str, Any]) -> None:
    table = Table(title=f"held-out rows, {evaluation['evaluated']}", title_justify="left")
    pairs = ["pairs preferred"] if preferred({}, evaluation) else []
    for column in ("model", "loss", "perplexity", "token accuracy", *pairs):
        table.add_column(column, justify="left" if column == "model" else "right")
    for who, score in evaluation["scores"].items():
        cells = [f"{score['loss']:.3f}", f"{score['perplexity']:.2f}", f"{score['accuracy']:.1%}"]
        table.add_row(who, *cells, *preferred(score, evaluation))
    console.print(table)
    for reason in evaluation["reasons"]:
        console.print(reason, markup=False, soft_wrap=True)


def _answers(console: Console, evaluation: dict[str, Any]) -> None:
    table = Table(title="the same questions, before and after", title_justify="left", show_lines=True)
    for column in ("question", "before", "after"):
        table.add_column(column, max_width=WIDEST)
    for answer in evaluation["answers"]:
        table.add_row(answer["asked"], _short(answer["base"]), _short(answer["candidate"]))
    console.print(table)


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 240 else flat[:239] + "…"


def served_line(gateway: servers.Gateway, server: servers.Server | None, now: float) -> tuple[str, ...]:
    """Return a row of `fineline serving`: model, version, URL, how long it has been up."""
    if server is None:
        return gateway.name, "-", gateway.url, "its model server is not running"
    return gateway.name, str(server.version), gateway.url, f"up {duration(now - server.process.started)}"
