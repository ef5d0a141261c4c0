"""The pull step: the base model's files, or its tokenizer's alone, on the weights volume."""

from typing import Annotated, Literal

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from steps.common.progress import say
from steps.common.resolved import ResolvedModel
from steps.common.step import step
from steps.pull.publish import publish_model, publish_tokenizer


class PullInput(Input):
    """What to fetch."""

    model: ResolvedModel
    files: Annotated[
        Literal["all", "tokenizer"],
        Parameter(
            description="tokenizer: only what preparing the rows needs, so that it need not wait for the weights"
        ),
    ] = "all"


class PullOutput(Output):
    """Where it is, and what it cost."""

    folder: str
    fetched_bytes: int


@step
def pull(input: PullInput) -> PullOutput:  # noqa: A002 - the name is Argo's
    """Fetch and publish; at once when it is there already.

    Raises:
        UserError: the source cannot be reached or gives wrong bytes, or the volume is too small.
    """
    model = input.model
    folder, fetched = publish_model(model) if input.files == "all" else publish_tokenizer(model)
    if not fetched:
        say(f"{model.uri}: already here, nothing to fetch")
    return PullOutput(folder=str(folder), fetched_bytes=fetched)
