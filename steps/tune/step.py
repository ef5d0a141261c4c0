"""The tune step: trains an adapter for a base model on prepared rows, with checkpoints that survive a kill."""

import os
from pathlib import Path
from typing import Annotated

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from recipes.tuning import DPO_ALONE
from steps.common.adapter.adapter_files import adapter_sha256
from steps.common.handover.covered_settings import covered_settings
from steps.common.handover.report import TuningRecord, read_step_report
from steps.common.handover.resolved import Hardware, Resolved
from steps.common.nodes.pod_placement import Placement
from steps.common.runtime.exit_codes import step
from steps.common.runtime.progress import say
from steps.common.runtime.waiting import WaitingLine
from steps.common.storage import volumes
from steps.common.storage.files import build_folder, digest_of, exclusive_lock
from steps.tune.report.tuning_report import summary_line
from steps.tune.train_process import TuningJob, run_train_process

FORMAT = 1  # part of a tuning's key; raise it when the same settings, or a changed default, train something else


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
    folder = volumes.tuning(tuning_key(input.resolved, input.rows_digest))
    line = WaitingLine()
    with exclusive_lock(folder, on_wait=lambda: line.report("another process that runs the same tuning")):
        if folder.exists():
            say("already tuned: an adapter with the same base model, rows and settings exists")
        else:
            with build_folder(folder, resume=True) as partial:
                _tune(input, partial)
    adapter = folder / "adapter"
    report = read_step_report(TuningRecord, folder)
    return TuneOutput(adapter_folder=str(adapter), adapter_sha256=adapter_sha256(adapter), summary=summary_line(report))


def tuning_key(resolved: Resolved, rows_digest: str) -> str:
    """Return the key of a tuning: a digest of base model, rows and the settings that have an effect."""
    wanted = resolved.recipe.tune
    without_effect = {"checkpoint_every"} if wanted.patience else {"checkpoint_every", "evaluations", "patience"}
    if wanted.objective == "sft":
        without_effect |= {"objective", *DPO_ALONE}
    covered = covered_settings(resolved.recipe)["tune"]
    settings = {name: value for name, value in covered.items() if name not in without_effect}
    return digest_of([FORMAT, resolved.model.digest, rows_digest, settings])


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
    say(summary_line(read_step_report(TuningRecord, folder)))
