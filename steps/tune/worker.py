"""A process that torchrun starts: `python -m torch.distributed.run … -m steps.tune.worker JOB`."""

import signal
import sys
from pathlib import Path

from steps.common.machine.parent_death import signal_on_parent_death
from steps.common.runtime.errors import USER_ERROR, InterruptedStepError, UserError
from steps.common.runtime.redaction import redact_streams
from steps.common.storage.files import write_text
from steps.tune.launch import OUTCOME_FILE
from steps.tune.train_process import TuningJob, run_train_process

signal_on_parent_death(signal.SIGKILL)
redact_streams()
job = TuningJob.model_validate_json(Path(sys.argv[1]).read_text())
try:
    run_train_process(job)
except UserError as error:
    write_text(Path(job.folder) / OUTCOME_FILE, f"user {error}")
    # An error on this rank alone, such as a row that its memory does not hold, leaves the other ranks waiting for it. A
    # failing exit code makes torchrun end them.
    sys.exit(USER_ERROR)
except InterruptedStepError as error:  # raised on all ranks at once
    if not (Path(job.folder) / OUTCOME_FILE).exists():
        write_text(Path(job.folder) / OUTCOME_FILE, f"interrupted {error}")
