"""One of the processes that torchrun starts: `python -m torch.distributed.run … -m steps.tune.worker JOB`."""

import signal
import sys
from pathlib import Path

from steps.common.runtime.errors import USER_ERROR, InterruptedStepError, UserError
from steps.common.runtime.parent_death import signal_on_parent_death
from steps.common.storage.files import write_text
from steps.tune.launch import OUTCOME
from steps.tune.train_process import TuningJob, work

signal_on_parent_death(signal.SIGKILL)
job = TuningJob.model_validate_json(Path(sys.argv[1]).read_text())
try:
    work(job)
except UserError as error:
    write_text(Path(job.folder) / OUTCOME, f"user {error}")
    # What stops this one alone, a row that its memory does not hold, leaves the others waiting for it: torchrun ends them.
    sys.exit(USER_ERROR)
except InterruptedStepError as error:  # as all do at once
    if not (Path(job.folder) / OUTCOME).exists():
        write_text(Path(job.folder) / OUTCOME, f"interrupted {error}")
