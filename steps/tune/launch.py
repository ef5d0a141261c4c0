"""Starts the processes of a tuning by torchrun, one a GPU, and hands on how they ended."""

import signal
import subprocess
import sys
from pathlib import Path

from steps.common.runtime.errors import InterruptedStepError, UserError
from steps.common.runtime.parent_death import signal_on_parent_death
from steps.common.storage.files import write_text
from steps.tune.train_process import TuningJob

JOB, OUTCOME = "job.json", "outcome.json"
KINDS: dict[str, type[Exception]] = {"user": UserError, "interrupted": InterruptedStepError}


def launch(job: TuningJob, processes: int) -> None:
    """Run them to their end.

    SIGTERM to this process is theirs too.

    Raises:
        UserError: as `work` raises it.
        InterruptedStepError: likewise.
        RuntimeError: one of them failed; its log has the traceback.
    """
    folder = Path(job.folder)
    write_text(folder / JOB, job.model_dump_json())
    (folder / OUTCOME).unlink(missing_ok=True)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    # torchrun gives each process one thread, which is right where a GPU computes. It hands SIGTERM on to them; what kills it
    # kills them, see `worker`: two groups that write the same checkpoints would be the end of both.
    group = subprocess.Popen(
        [*torchrun, "-m", "steps.tune.worker", str(folder / JOB)],
        preexec_fn=lambda: signal_on_parent_death(signal.SIGKILL),
    )
    before = signal.signal(signal.SIGTERM, lambda *_: group.terminate())
    try:
        code = group.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
        if group.poll() is None:
            group.kill()
    told = (folder / OUTCOME).read_text() if (folder / OUTCOME).exists() else ""
    for name in (JOB, OUTCOME):
        (folder / name).unlink(missing_ok=True)
    if told:
        kind, _, text = told.partition(" ")
        raise KINDS[kind](text)
    if code:
        raise RuntimeError(f"torchrun ended with exit code {code}; the log has what its processes said")
