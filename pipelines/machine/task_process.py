"""Runs a task as a process: Hera's runner, with volumes mapped to folders."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path, PurePosixPath

from pipelines.machine.local_workflow import Script
from pipelines.machine.run_record import INPUTS, LOG, OUTPUTS, PROGRESS, Run
from pipelines.shown.task_state import Phase, TaskState
from steps.common.machine.parent_death import signal_on_parent_death
from steps.common.runtime.progress import ARGO_SETTING, LINE_SETTING, PREFIX

HERA_OUTPUTS = "hera__outputs_directory"
ERROR = "error: "


class TaskProcess:
    """A running task."""

    def __init__(self, run: Run, task: str, script: Script, inputs: dict[str, str], folders: dict[str, Path]) -> None:
        """Start the process.

        Args:
            run: the run that the task belongs to.
            task: the task's name.
            script: the task's template.
            inputs: the input parameters, with references filled in.
            folders: a folder for each volume.
        """
        self.script = script
        self.folder = run.task_folder(task)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        parameters = [{"name": name, "value": value} for name, value in inputs.items()]
        (self.folder / INPUTS).write_text(json.dumps(parameters))
        self.started = time.monotonic()
        command = [
            sys.executable,
            "-m",
            "hera.workflows.runner",
            "-e",
            script.entrypoint,
            str(self.folder / INPUTS),
        ]
        with (self.folder / LOG).open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd=self.folder,
                env=self._environment(folders),
                start_new_session=True,
                preexec_fn=lambda: signal_on_parent_death(signal.SIGTERM),
            )

    def _environment(self, folders: dict[str, Path]) -> dict[str, str]:
        """Return the step's environment, with paths on volumes mapped to paths on this machine."""
        mounted = {mount.path: folders[mount.volume] for mount in self.script.mounts}
        own = {name: _mapped(value, mounted) for name, value in self.script.env.items()}
        own[HERA_OUTPUTS] = str(self.folder / OUTPUTS)
        own[LINE_SETTING] = str(self.folder / PROGRESS)
        # Otherwise a folder in the working directory that is named like one of our packages would be imported instead.
        own["PYTHONSAFEPATH"] = "1"
        own["PYTHONUNBUFFERED"] = "1"
        own["TOKENIZERS_PARALLELISM"] = "true"
        # Python images often set PYTHONDONTWRITEBYTECODE; every step would then compile torch again, which takes 10 to 20 s.
        # Inside an Argo step, Argo reads the progress of that step, not of this one.
        dropped = ("PYTHONDONTWRITEBYTECODE", ARGO_SETTING)
        inherited = {name: value for name, value in os.environ.items() if name not in dropped}
        # By default a waiting OpenMP thread spins for milliseconds. With one other busy program on two cores, a training step
        # then takes 2.5 times as long (5.5 s instead of 2.3 s); on an idle machine there is no difference.
        return {"GOMP_SPINCOUNT": "1000", **inherited, **own}

    def final_state(self) -> TaskState | None:
        """Return how the task ended, or None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        seconds = time.monotonic() - self.started
        missing = [name for name in self.script.outputs if not (self.folder / OUTPUTS / "parameters" / name).exists()]
        if code == 0 and not missing:
            return TaskState(phase=Phase.SUCCEEDED, seconds=seconds)
        if code == 0:
            return TaskState(
                phase=Phase.FAILED, exit_code=1, seconds=seconds, message=f"did not write its output {missing[0]!r}"
            )
        if code < 0:
            code = 128 - code  # as shells and Argo report a signal
        return TaskState(phase=Phase.FAILED, exit_code=code, seconds=seconds, message=self._why(code))

    def _why(self, code: int) -> str:
        lines = [line for line in self._log_lines() if line.strip() and not line.startswith(PREFIX)]
        errors = [line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)]
        if errors:
            return errors[-1]
        if code == 128 + signal.SIGKILL:
            return "was killed, by a person or by the system because memory ran out (look for an OOM message in dmesg)"
        return lines[-1].strip() if lines else f"ended with exit code {code}"

    def progress(self) -> str:
        """Return the task's latest line of progress."""
        file = self.folder / PROGRESS
        return file.read_text().strip() if file.exists() else ""

    def _log_lines(self) -> list[str]:
        with (self.folder / LOG).open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 8192))
            return log.read().decode(errors="replace").splitlines()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and its child processes."""
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return


def _mapped(value: str, mounted: dict[str, Path]) -> str:
    for path, folder in mounted.items():
        if PurePosixPath(value).is_relative_to(path):
            return str(folder / PurePosixPath(value).relative_to(path))
    return value
