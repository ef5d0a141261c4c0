"""The process that executes a job's run, as `fineline run --resume RUN` does. If its parent dies, it stops at a checkpoint."""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

from api.check_process import child_environment
from steps.common.machine.parent_death import signal_on_parent_death
from steps.common.runtime.errors import INTERRUPTED

EXECUTE, CLOSE = "execute", "close"
PROVISION, TUNE = "provision", "tune"  # tasks


def begin(action: str, run: str, output: Path) -> subprocess.Popen[bytes]:
    """Start the process.

    The thread that calls this must outlive the process: for the kernel, the parent dies when that thread ends.

    Args:
        action: what to do with the run: execute it, or close the records of one that was cancelled.
        run: its name.
        output: file that its output is appended to.
    """
    with output.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "api.machine.job_process", action, run, str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=child_environment(),
            start_new_session=True,  # Ctrl-C reaches only the parent, which stops this process once
        )


def main(arguments: list[str]) -> int:
    """Do what `begin` asks for, and return the exit code of `fineline run`."""
    action, run, parent = arguments
    signal_on_parent_death(signal.SIGTERM)
    if os.getppid() != int(parent):  # the parent died before the kernel was asked to signal that
        return INTERRUPTED
    if action == CLOSE:
        return _close(run)
    renew_hours(run)
    # As a program: the command imports the API, so the API cannot import the command.
    sys.argv = ["fineline", "run", "--resume", run]
    runpy.run_module("pipelines.command", run_name="__main__")  # which exits
    return 0


def renew_hours(name: str) -> None:
    """Let a run whose training is not finished get this machine again, since compute.max_hours counts from then.

    Otherwise the hours of a pause would count too, and end the run.
    """
    from pipelines.machine.run_record import load_run
    from pipelines.shown.task_state import Phase
    from steps.common.handover.resolved import Hardware

    run = load_run(name)
    got = run.task_state(PROVISION) if run else None
    if run is None or got is None or got.phase is not Phase.SUCCEEDED:
        return
    tuned = run.task_state(TUNE)
    if Hardware.model_validate_json(run.outputs(PROVISION)["hardware"]).until and not (
        tuned and tuned.phase is Phase.SUCCEEDED
    ):
        run.save_task_state(PROVISION, got.model_copy(update={"phase": Phase.INTERRUPTED}))


def _close(name: str) -> int:
    """Close the records of a cancelled run, as the workflow's exit handler does when a run ends."""
    from pipelines.machine.run_record import load_run
    from steps.common.runtime.proxies import bypass_proxies
    from steps.common.runtime.redaction import redacted_streams
    from steps.common.runtime.secret import strip_secrets
    from steps.release.step import ReleaseInput, release

    run = load_run(name)
    if run is None:
        return 0
    with redacted_streams():
        bypass_proxies()
        strip_secrets()
        release(
            ReleaseInput(
                run=name,
                status="Failed",
                recipe=run.parameters["recipe"],
                failures=json.dumps([{"displayName": "job", "message": run.message}]),
                seconds=max(0.0, (run.finished or time.time()) - run.started),
            )
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
