"""The tune step: prepared rows and a base model to an adapter, through checkpoints that survive a kill."""

import json
import os
from pathlib import Path
from typing import Annotated

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from recipes.tuning import DPO_ALONE
from steps.common.adapter.adapter_files import adapter_sha256
from steps.common.handover.resolved import Hardware, Resolved
from steps.common.runtime.exit_codes import step
from steps.common.runtime.progress import say
from steps.common.storage import volumes
from steps.common.storage.files import build_folder, digest_of, exclusive_lock
from steps.tune.report.result import in_words
from steps.tune.train_process import TuningJob, work

FORMAT = 1  # of what is learnt from the same settings; raised when the training itself changes


class TuneInput(Input):
    """What to tune, on what, with what."""

    resolved: Resolved
    base_folder: Annotated[str, Parameter(description="Folder of the base model")]
    rows_folder: Annotated[str, Parameter(description="Folder of the prepared rows")]
    rows_digest: Annotated[str, Parameter(description="Digest of the prepared rows")]
    hardware: Annotated[Hardware, Parameter(description="What computes")]
    placement: Annotated[str, Parameter(description="Patch of the pod's spec; Argo reads it, not the step")] = "{}"


class TuneOutput(Output):
    """The adapter."""

    adapter_folder: str
    adapter_sha256: str
    summary: str


@step
def tune(input: TuneInput) -> TuneOutput:
    """Tune; at once when the same base, rows and settings were tuned before.

    Raises:
        UserError: the data or settings do not suit the model.
        InterruptedStepError: SIGTERM came; run again, it goes on from the checkpoint.
    """
    resolved = input.resolved
    wanted = resolved.recipe.tune
    unused = {"checkpoint_every"} if wanted.patience else {"checkpoint_every", "evaluations", "patience"}
    if wanted.objective == "sft":
        unused |= {"objective", *DPO_ALONE}
    settings = wanted.model_dump(exclude=unused)
    key = digest_of([FORMAT, resolved.model.digest, input.rows_digest, settings])
    folder = volumes.tuning(key)
    with exclusive_lock(folder, on_wait=lambda: say("progress: waiting for the process that tunes the same")):
        if folder.exists():
            say("the same base, rows and settings were tuned before")
        else:
            with build_folder(folder, resume=True) as partial:
                _tune(input, partial)
    adapter = folder / "adapter"
    report = json.loads((folder / "report.json").read_text())
    return TuneOutput(adapter_folder=str(adapter), adapter_sha256=adapter_sha256(adapter), summary=in_words(report))


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
        # Two GPUs in one process would be DataParallel, which no 4-bit base survives.
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
        work(job)
    say(in_words(json.loads((folder / "report.json").read_text())))
