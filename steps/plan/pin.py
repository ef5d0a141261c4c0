"""The pin step: resolves a base model to a commit, so that it can be downloaded without a recipe."""

from typing import Annotated

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from steps.common.handover.resolved import ResolvedModel
from steps.common.runtime.exit_codes import step
from steps.common.runtime.progress import say
from steps.plan.model import resolve_model


class PinInput(Input):
    """The model to resolve."""

    model: Annotated[str, Parameter(description="Base model: a preset or a URI")]


class PinOutput(Output):
    """The base model, pinned."""

    model: ResolvedModel


@step
def pin(input: PinInput) -> PinOutput:
    """Resolve a model to a commit and its files.

    Raises:
        UserError: the model does not exist, or access is denied.
    """
    model = resolve_model(input.model)
    say(f"{model.name}: {model.uri}, {model.bytes / 1e6:.0f} MB, {model.licence}")
    return PinOutput(model=model)
