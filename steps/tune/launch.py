"""Starts the processes of a tuning with torchrun, one per GPU, and reports how they ended."""

import signal
import subprocess
import sys
from pathlib import Path

from steps.common.machine.parent_death import signal_on_parent_death
from steps.common.runtime.errors import InterruptedStepError, UserError
from steps.common.storage.files import write_text
from steps.tune.train_process import TuningJob

JOB_FILE, OUTCOME_FILE = "job.json", "outcome.json"  # in the tuning's folder, for the workers and from them
OUTCOMES: dict[str, type[Exception]] = {"user": UserError, "interrupted": InterruptedStepError}


def launch(job: TuningJob, processes: int) -> None:
    """Run the processes to their end. SIGTERM to this process is passed on to them.

    Raises:
        UserError: as `run_train_process` raises it.
        InterruptedStepError: likewise.
        RuntimeError: a process failed; its traceback is in the log.
    """
    folder = Path(job.folder)
    write_text(folder / JOB_FILE, job.model_dump_json())
    (folder / OUTCOME_FILE).unlink(missing_ok=True)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    # torchrun gives each process one thread, which suits a GPU. It passes SIGTERM on to its workers, and they die with it
    # (see `worker`): two groups that write the same checkpoints would destroy them.
    group = subprocess.Popen(
        [*torchrun, "-m", "steps.tune.worker", str(folder / JOB_FILE)],
        preexec_fn=lambda: signal_on_parent_death(signal.SIGKILL),
    )
    previous_handler = signal.signal(signal.SIGTERM, lambda *_: group.terminate())
    try:
        code = group.wait()
    finally:
        signal.signal(signal.SIGTERM, previous_handler)
        if group.poll() is None:
            group.kill()
    outcome = (folder / OUTCOME_FILE).read_text() if (folder / OUTCOME_FILE).exists() else ""
    for name in (JOB_FILE, OUTCOME_FILE):
        (folder / name).unlink(missing_ok=True)
    if outcome:
        kind, _, text = outcome.partition(" ")
        raise OUTCOMES[kind](text)
    if code:
        raise RuntimeError(f"torchrun ended with exit code {code}; see the output of its processes in the log")
