"""Asks all of a packed task of nobody, where it has no more than it will have when it is evaluated: no network, no cache.

That is a process of its own: what a library may reach is settled when it is loaded, and what the packing has loaded it keeps.
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
from steps.plan.lm_eval.foreign_errors import one_line

# Else a library would try for minutes.
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1"}
# Settings that name a cache, by how they begin; it lies in HOME where none does.
CACHES = ("HF_", "XDG_CACHE_HOME", "NLTK_DATA")


class Trial(BaseModel):
    """What is tried."""

    key: str  # the recipe's, for messages
    wanted: LmEvalTask
    content: Path  # the packed task, as it is unpacked
    asked: PackedRequest


def tried(trial: Trial) -> PackedRequest:
    """Return what is asked with the metric that was chosen, and how many tokens it takes.

    Raises:
        UserError: it fails, or has no such metric: what would fail after a training fails here.
    """
    with tempfile.TemporaryDirectory(prefix="lm-eval-") as home:
        given = {name: value for name, value in os.environ.items() if not name.startswith(CACHES)}
        installed = {"PYTHONSAFEPATH": "1", "PYTHONUSERBASE": site.getuserbase()}
        process = subprocess.run(
            [sys.executable, "-m", __name__, home],
            input=trial.model_dump_json(),
            env={**given, **OFFLINE, **installed, "HOME": home},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        told = _told(home).read_text(encoding="utf-8") if _told(home).exists() else ""
    if process.returncode == 0:
        return PackedRequest.model_validate_json(told)
    last = process.stderr.strip().rpartition("\n")[2]
    raise UserError(told or f"{_where(trial)}: the process that tried it ended with {process.returncode}: {last}")


def _told(home: str) -> Path:
    return Path(home) / "told"


def _where(trial: Trial) -> str:
    return (
        f"{trial.key}: lm-eval's task {trial.wanted.task} cannot be asked without a network, as an evaluation asks it"
    )


def _try(trial: Trial) -> PackedRequest:
    from steps.common.lm_eval.load_tasks import load
    from steps.common.lm_eval.samples import samples
    from steps.plan.lm_eval.metric import choose
    from steps.plan.lm_eval.nobody import nobody

    listener = nobody()
    try:
        tasks = load(trial.content, trial.asked)
        _check_metrics(trial, tasks)
        found = samples(listener, tasks, trial.asked, chat_template=False)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{_where(trial)}: {one_line(error)}") from None
    metric, filtered = choose(trial.key, trial.wanted, tasks, found)
    return trial.asked.model_copy(
        update={
            "metric": metric,
            "filter": filtered,
            "read_tokens": listener.read_tokens,
            "written_tokens": listener.written_tokens,
        }
    )


def _check_metrics(trial: Trial, tasks: dict[str, Any]) -> None:
    """Refuse a metric that was not found: lm-eval goes on without one, and fails at the first row."""
    for name, one in tasks.items():
        gone = [metric for metric, by in one._metric_fn_list.items() if by is None and not one.config.process_results]
        if gone:
            raise UserError(
                f"{trial.key}: lm-eval's task {name}: its metric {gone[0]} is none of lm-eval's own, and an evaluation reaches "
                "no hub to fetch it from; take another task, or give it another metric"
            )


def _no_way_out(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse what Python tells of before it is done, whichever library does it."""
    if event in ("socket.getaddrinfo", "socket.gethostbyname") or (
        event == "socket.connect" and arguments[0].family != socket.AF_UNIX
    ):
        raise OSError("an evaluation reaches no network")


def _main(home: str) -> int:
    sys.addaudithook(_no_way_out)
    try:
        text, code = _try(Trial.model_validate_json(sys.stdin.buffer.read())).model_dump_json(), 0
    except UserError as error:
        text, code = str(error), USER_ERROR
    _told(home).write_text(text, encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
