"""Runs a packed task, whose code is lm-eval's or the user's, in a process of its own that can reach nothing but a model.

The process gets no secret, no token, no network, and no file but the task's own and those of its interpreter. It asks the model
over a socket, in JSON: nothing that it sends is executed here.
"""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from steps.common.lm_eval.confined_main import ConfinedOrder
from steps.common.lm_eval.model_socket import (
    ClosedSocketError,
    MessageError,
    ModelQuestion,
    TaskMessage,
    TaskOutcome,
    receive,
    send,
)
from steps.common.lm_eval.pack import PackedRequest
from steps.common.machine.devices import memory_available
from steps.common.runtime.errors import UserError

# Whatever else this process knows, such as tokens and passwords, the task's process does not get.
INHERITED = ("PATH", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME")
THREADS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS", "GOMP_SPINCOUNT")
# Without the first three a library retries for minutes; without the last, torch asks a GPU that it may not open.
FIXED = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_EVALUATE_OFFLINE": "1",
    "PYTHONSAFEPATH": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "CUDA_VISIBLE_DEVICES": "",
}

# How an answer may be generated. transformers takes settings, such as `custom_generate`, that name code to run.
GENERATION_SETTINGS = {
    "until",
    "max_gen_toks",
    "max_new_tokens",
    "max_tokens",
    "max_length",
    "do_sample",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "typical_p",
    "num_beams",
    "early_stopping",
    "length_penalty",
    "repetition_penalty",
    "no_repeat_ngram_size",
}


LEAST_DATA_BYTES = 4 << 30  # Python with lm-eval and its libraries takes a fraction of it


class AskedModel(Protocol):
    """What answers a task's questions."""

    def answer(self, question: ModelQuestion) -> Any:
        """Return one answer for each request, or the text of a chat; JSON must be able to hold it."""


def run_confined(
    content: Path, request: PackedRequest, model: AskedModel | None, *, chat_template: bool, where: str
) -> TaskOutcome:
    """Run a packed task on a model.

    Args:
        content: folder of the unpacked task.
        request: what it asks.
        model: answers its questions, in this process; None: the task is only loaded, and asks nothing.
        chat_template: ask under the model's own chat template.
        where: the task, for messages.

    Raises:
        UserError: this system cannot confine a process, the task's process died, or it sent what is no question, or one
            that is not allowed.
    """
    ours, theirs = socket.socketpair()
    with tempfile.TemporaryDirectory(prefix="lm-eval-") as home, ours, (Path(home) / "log").open("w+b") as log:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "steps.common.lm_eval.confined_main", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=home,
                env=_environment(home),
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        try:
            folder = Path(home).resolve()
            order = ConfinedOrder(
                content=content.resolve(),
                home=folder,
                request=request,
                chat_template=chat_template,
                data_bytes=data_bytes(),
                only_load=model is None,
            )
            send(ours, order.model_dump(mode="json"))
            if refused := str(receive(ours)["refused"]):
                raise UserError(f"{where}: its code is not run, since it cannot be confined here: {refused}")
            return _converse(ours, model, where)
        except (ClosedSocketError, BrokenPipeError, ConnectionResetError):
            code = process.wait()
            raise UserError(f"{where}: its process ended with exit code {code}: {_last_line(log)}") from None
        except (MessageError, ValidationError, KeyError, TypeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{where}: its process sent what is not a question to a model: {reason}") from None
        finally:
            process.kill()
            process.wait()


def _converse(connection: socket.socket, model: AskedModel | None, where: str) -> TaskOutcome:
    while True:
        message = TaskMessage.model_validate(receive(connection))
        if message.outcome is not None:
            return message.outcome
        if message.question is None or model is None:
            raise MessageError("an outcome was expected")
        _check_settings(message.question, where)
        send(connection, {"answer": model.answer(message.question)})


def _check_settings(question: ModelQuestion, where: str) -> None:
    if len(question.settings) != (len(question.texts) if question.kind == "generate_until" else 0):
        raise MessageError("it has not one set of settings for each answer to generate")
    for settings in question.settings:
        if unknown := sorted(set(settings) - GENERATION_SETTINGS):
            known = ", ".join(sorted(GENERATION_SETTINGS))
            raise UserError(
                f"{where}: generates its answers with {unknown[0]!r}, which is not supported; use only {known}"
            )


def data_bytes() -> int:
    """Return how much memory a task's process may write to: half of what is free, and at least 4 GiB."""
    return max(LEAST_DATA_BYTES, memory_available() // 2)


def _environment(home: str) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in (*INHERITED, *THREADS) if name in os.environ}
    return {**inherited, **FIXED, "HOME": home, "TMPDIR": home}


def _last_line(log: Any) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    return " ".join(lines[-1].split())[:300] if lines else "it printed nothing"
