"""Tries a packed task under the conditions of an evaluation: all its rows, with neither network nor cache.

It runs in a process of its own: libraries decide on import what they may access, and this process has imported them already.
"""

import os
import site
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from recipes.evaluation import LmEvalTask
from steps.common.lm_eval.pack import PackedRequest
from steps.common.runtime.errors import USER_ERROR, UserError
from steps.plan.lm_eval.foreign_errors import as_one_line

# Without these a library retries for minutes.
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1"}
# Prefixes of the settings that name a cache; without them, caches are in HOME.
CACHES = ("HF_", "XDG_CACHE_HOME", "NLTK_DATA")


class Trial(BaseModel):
    """A task to try."""

    key: str  # the recipe's key, for messages
    task: LmEvalTask
    content: Path  # folder of the packed task, as it will be unpacked
    request: PackedRequest


def run_trial(trial: Trial) -> PackedRequest:
    """Run the task on a model that only counts, and return its request with the chosen metric and its token counts.

    Raises:
        UserError: the task fails, or has no such metric.
    """
    with tempfile.TemporaryDirectory(prefix="lm-eval-") as home:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(CACHES)}
        installed = {"PYTHONSAFEPATH": "1", "PYTHONUSERBASE": site.getuserbase()}
        process = subprocess.run(
            [sys.executable, "-m", __name__, home],
            input=trial.model_dump_json(),
            env={**inherited, **OFFLINE, **installed, "HOME": home},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        result = _result_file(home).read_text(encoding="utf-8") if _result_file(home).exists() else ""
    if process.returncode == 0:
        return PackedRequest.model_validate_json(result)
    last_line = process.stderr.strip().rpartition("\n")[2]
    raise UserError(result or f"{_where(trial)}: its process ended with exit code {process.returncode}: {last_line}")


def _result_file(home: str) -> Path:
    """Return the file with the process's result: the request as JSON, or the error's text."""
    return Path(home) / "result"


def _where(trial: Trial) -> str:
    return f"{trial.key}: lm-eval's task {trial.task.task} fails without a network, which an evaluation does not have"


def _try(trial: Trial) -> PackedRequest:
    from steps.common.lm_eval.load_tasks import load_tasks
    from steps.common.lm_eval.samples import run_samples
    from steps.plan.lm_eval.choose_metric import choose_metric
    from steps.plan.lm_eval.counting_model import counting_model

    model = counting_model()
    try:
        loaded = load_tasks(trial.content, trial.request)
        _check_metrics(trial, loaded)
        samples = run_samples(model, loaded, trial.request, chat_template=False)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{_where(trial)}: {as_one_line(error)}") from None
    metric, filtered = choose_metric(trial.key, trial.task, loaded, samples)
    return trial.request.model_copy(
        update={
            "metric": metric,
            "filter": filtered,
            "read_tokens": model.read_tokens,
            "written_tokens": model.written_tokens,
        }
    )


def _check_metrics(trial: Trial, loaded: dict[str, Any]) -> None:
    """Refuse a metric that lm-eval did not find: it continues without one and fails on the first row."""
    for name, task in loaded.items():
        process_results = task.config.process_results
        missing = [metric for metric, found in task._metric_fn_list.items() if found is None and not process_results]
        if missing:
            raise UserError(
                f"{trial.key}: lm-eval's task {name}: lm-eval has no metric {missing[0]}, and an evaluation has no network to "
                "fetch it; choose another task, or give this one another metric"
            )


def _block_network(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse network access of any library; Python announces it to audit hooks before it happens."""
    if event in ("socket.getaddrinfo", "socket.gethostbyname") or (
        event == "socket.connect" and arguments[0].family != socket.AF_UNIX
    ):
        raise OSError("an evaluation has no network")


def _main(home: str) -> int:
    sys.addaudithook(_block_network)
    try:
        text, code = _try(Trial.model_validate_json(sys.stdin.buffer.read())).model_dump_json(), 0
    except UserError as error:
        text, code = str(error), USER_ERROR
    _result_file(home).write_text(text, encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
