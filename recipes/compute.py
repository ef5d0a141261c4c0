"""The part of a recipe that says what a run may compute on, and what that may cost."""

from typing import Literal

from pydantic import Field

from recipes.recipe_part import RecipePart


class Compute(RecipePart):
    """What a run may compute on, and what that may cost."""

    instance_types: list[str] = Field(
        default=[], description="Only these, of a cloud. Empty: all that the GPU presets know."
    )
    capacity: Literal["on-demand", "spot", "spot-first"] = Field(
        default="on-demand",
        description="spot-first: an instance type is asked for on-demand where there is none of it on spot.",
    )
    max_cost: float = Field(
        default=0,
        ge=0,
        description="US dollars. A run that would cost more is refused; one that comes to it is stopped, its checkpoint "
        "kept. 0: no limit.",
    )
    max_hours: float = Field(default=0, ge=0, description="Likewise, in hours. 0: no limit.")
    node_class: str = Field(
        default="", description="Name of Karpenter's NodeClass. Empty: the one that is there, or the one named default."
    )
    wait_minutes: float = Field(
        default=15,
        gt=0,
        le=120,
        description="Longest wait for a node of one instance type; then the next one is tried.",
    )
    idle_minutes: float = Field(
        default=30, gt=0, description="A tuning that has taken no step for so long is ended: its GPU computes nothing."
    )
