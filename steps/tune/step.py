"""The tune step: trains an adapter for a base model on prepared rows, with checkpoints that survive a kill."""

import json
import os
from pathlib import Path
from typing import Annotated

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from recipes.tuning import DPO_ALONE
from steps.common.adapter.adapter_files import adapter_sha256
from steps.common.handover.resolved import Hardware, Resolved
from steps.common.nodes.pod_placement import Placement
from steps.common.runtime.exit_codes import step
from steps.common.runtime.progress import say
from steps.common.runtime.waiting import WaitingLine
from steps.common.storage import volumes
from steps.common.storage.files import build_folder, digest_of, exclusive_lock
from steps.tune.report.tuning_report import summary_line
from steps.tune.train_process import TuningJob, run_train_process

FORMAT = 1  # part of a tuning's key; raised when a change to the training changes what the same settings result in


class TuneInput(Input):
    """What to tune, on which rows, on which hardware."""

    resolved: Resolved
    base_folder: Annotated[str, Parameter(description="Folder of the base model")]
    rows_folder: Annotated[str, Parameter(description="Folder of the prepared rows")]
    rows_digest: Annotated[str, Parameter(description="Digest of the prepared rows")]
    hardware: Annotated[Hardware, Parameter(description="Hardware to train on")]
    placement: Annotated[Placement, Parameter(description="Read by Argo, not by the step")] = Placement()


class TuneOutput(Output):
    """The adapter."""

    adapter_folder: str
    adapter_sha256: str
    summary: str


@step
def tune(input: TuneInput) -> TuneOutput:
    """Tune an adapter, or return the existing one for the same base model, rows and settings.

    Raises:
        UserError: the data or the settings do not suit the model, or a limit was reached.
        InterruptedStepError: SIGTERM was received; running the step again resumes from the checkpoint.
    """
    resolved = input.resolved
    wanted = resolved.recipe.tune
    without_effect = {"checkpoint_every"} if wanted.patience else {"checkpoint_every", "evaluations", "patience"}
    if wanted.objective == "sft":
        without_effect |= {"objective", *DPO_ALONE}
    settings = wanted.model_dump(exclude=without_effect)
    key = digest_of([FORMAT, resolved.model.digest, input.rows_digest, settings])
    folder = volumes.tuning(key)
    line = WaitingLine()
    with exclusive_lock(folder, on_wait=lambda: line.report("another process that runs the same tuning")):
        if folder.exists():
            say("already tuned: an adapter with the same base model, rows and settings exists")
        else:
            with build_folder(folder, resume=True) as partial:
                _tune(input, partial)
    adapter = folder / "adapter"
    report = json.loads((folder / "report.json").read_text())
    return TuneOutput(adapter_folder=str(adapter), adapter_sha256=adapter_sha256(adapter), summary=summary_line(report))


def _tune(input: TuneInput, folder: Path) -> None:
    job = TuningJob(
        resolved=input.resolved,
        hardware=input.hardware,
        base_folder=input.base_folder,
        rows_folder=input.rows_folder,
        folder=str(folder),
    )
    processes = input.hardware.rung.processes
    if processes > 1:
        from steps.tune.launch import launch

        launch(job, processes)
    else:
        # With two GPUs visible, the Trainer would use DataParallel, which a 4-bit base model does not support.
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
        run_train_process(job)
    say(summary_line(json.loads((folder / "report.json").read_text())))
