"""The one usable checkpoint of a job: the adapter that the training has kept.

During training, a checkpoint is there to resume from. The next one replaces it, and nothing loads it as a model. At the end,
the adapter of the last step is kept, or with `tune.patience` the one with the lowest held-out loss. It is evaluated and
registered.
"""

import hashlib
import math
from typing import Literal

from pydantic import BaseModel

from api.jobs.job_place import JobState
from api.jobs.job_record import JobRecord


class CheckpointMetrics(BaseModel):
    """The metrics of a checkpoint. A metric that was not measured at its step is null."""

    step: int
    train_loss: float | None
    train_mean_token_accuracy: None = None  # the training does not measure it
    valid_loss: float | None  # on the held-out rows that are measured during the training
    valid_mean_token_accuracy: None = None  # not measured either
    full_valid_loss: float | None  # on all held-out rows, by the evaluation
    full_valid_mean_token_accuracy: float | None


class FineTuningJobCheckpoint(BaseModel):
    """A checkpoint that can be used as a model."""

    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    id: str
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    metrics: CheckpointMetrics
    step_number: int


def checkpoints_of(job: JobRecord, state: JobState) -> list[FineTuningJobCheckpoint]:
    """Return the usable checkpoints of a job; none until it has succeeded."""
    if state.status != "succeeded" or not state.report or not state.report.tuning:
        return []
    tuning, scores = state.report.tuning, state.report.scores["candidate"]
    step = tuning.steps if tuning.kept_step is None else tuning.kept_step
    tuned = state.times.get("tune", (0.0, 0.0))[1] or state.finished or job.created_at
    return [
        FineTuningJobCheckpoint(
            id=f"ftckpt_{hashlib.sha256(f'{job.id} {step}'.encode()).hexdigest()[:24]}",
            created_at=int(tuned),
            fine_tuned_model_checkpoint=job.name,
            fine_tuning_job_id=job.id,
            metrics=CheckpointMetrics(
                step=step,
                train_loss=_finite(dict(tuning.losses).get(step)),
                valid_loss=_finite(dict(tuning.held_out).get(step)),
                full_valid_loss=_finite(scores.loss),
                full_valid_mean_token_accuracy=_finite(scores.accuracy),
            ),
            step_number=step,
        )
    ]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
