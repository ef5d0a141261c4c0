"""The pin step: which base model is meant, at which commit, so that it can be fetched without a recipe."""

from typing import Annotated

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from steps.common.handover.resolved import ResolvedModel
from steps.common.runtime.exit_codes import step
from steps.common.runtime.progress import say
from steps.plan.model import resolve_model


class PinInput(Input):
    """What to look up."""

    model: Annotated[str, Parameter(description="Model preset or URI")]


class PinOutput(Output):
    """The base model, pinned."""

    model: ResolvedModel


@step
def pin(input: PinInput) -> PinOutput:
    """Resolve a model to a commit and its files.

    Raises:
        UserError: no such model, or no access to it.
    """
    model = resolve_model(input.model)
    say(f"{model.name}: {model.uri}, {model.bytes / 1e6:.0f} MB, {model.licence}")
    return PinOutput(model=model)
