"""Everything that a training is made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.tuning import Tune
from steps.tune.distributed.base_placement import BasePlacement
from steps.tune.distributed.process_group import ProcessGroup
from steps.tune.loop.held_out import HeldOutEvaluation
from steps.tune.loop.stop_conditions import StopConditions
from steps.tune.loop.token_budget import TokenBudget
from steps.tune.objective.objective import Objective, Pack


@dataclass(frozen=True)
class TrainingSetup:
    """The model, the data, the objective and the surroundings of one process's training."""

    model: Any  # the PEFT model
    steps: Sequence[list[Pack]]  # the packs of each optimizer step, over all epochs
    objective: Objective
    held_out: HeldOutEvaluation
    tune: Tune
    checkpoints: Path  # folder
    device: str  # "cpu" or "cuda"
    group: ProcessGroup
    base: BasePlacement
    budget: TokenBudget
    stop: StopConditions
    log_metrics: Callable[[int, dict[str, float]], None]  # called with the step and its metrics
    heartbeat: Callable[[], None]  # called after each micro-batch
