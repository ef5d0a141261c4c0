"""The part of a recipe that limits the hardware, the cost and the time of a run."""

from typing import Literal

from pydantic import Field

from recipes.recipe_part import RecipePart


class Compute(RecipePart):
    """The hardware that a run may use, and the limits on its cost and time."""

    instance_types: list[str] = Field(
        default=[], description="Use only these cloud instance types. Empty: any type that the GPU presets list."
    )
    capacity: Literal["on-demand", "spot", "spot-first"] = Field(
        default="on-demand",
        description="How GPU nodes are bought. spot-first: try spot, then the same instance type on demand.",
    )
    max_cost: float = Field(
        default=0,
        ge=0,
        description="Budget of the run in US dollars. `plan` refuses a run that would cost more, and a run that reaches the "
        "budget is stopped with its checkpoint saved. 0: no limit.",
    )
    max_hours: float = Field(
        default=0,
        ge=0,
        description="Time limit of the run in hours. `plan` refuses a run that would take longer, and a run that reaches the "
        "limit is stopped with its checkpoint saved. 0: no limit.",
    )
    node_class: str = Field(
        default="",
        description="Karpenter NodeClass for the nodes that a run buys. Empty: the only one in the cluster, or the one named "
        "`default`.",
    )
    wait_minutes: float = Field(
        default=15,
        gt=0,
        le=120,
        description="Minutes to wait for a node of one instance type before the next type is tried.",
    )
    idle_minutes: float = Field(
        default=30,
        gt=0,
        description="Minutes without an optimizer step after which tuning is stopped because its GPU does no work.",
    )
