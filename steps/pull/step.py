"""The pull step: puts the base model's files, or only the tokenizer's, on the weights volume."""

from typing import Annotated, Literal

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from steps.common.handover.resolved import ResolvedModel
from steps.common.runtime.exit_codes import step
from steps.common.runtime.progress import say
from steps.common.storage import volumes
from steps.common.weights import store
from steps.pull.publish import publish_model, publish_tokenizer
from steps.pull.verify import verify


class PullInput(Input):
    """What to fetch."""

    model: ResolvedModel
    files: Annotated[
        Literal["all", "tokenizer"],
        Parameter(
            description="tokenizer: only what preparing the rows needs, which then does not wait for the weights"
        ),
    ] = "all"
    verify: Annotated[bool, Parameter(description="Hash published files again")] = False
    run: Annotated[str, Parameter(description="The run that needs the model, which is not deleted until it ends")] = ""
    hold_hours: Annotated[float, Parameter(description="After so many hours it may be deleted anyway")] = 14 * 24


class PullOutput(Output):
    """Where the model is, and how many bytes were fetched."""

    folder: str
    fetched_bytes: int


@step
def pull(input: PullInput) -> PullOutput:
    """Fetch and publish a model; return at once if it is published.

    Raises:
        UserError: the source refuses or sends wrong bytes, or the volume is too small.
        UnreachableError: the source did not answer, even when asked again.
        InterruptedStepError: another process has taken over the writing; if run again, the step waits for it.
    """
    model = input.model
    folder = volumes.published_model(model.digest)
    if input.run and input.files == "all":
        store.hold(folder, input.run, input.hold_hours)
    if input.verify and store.intact(folder):
        wrong = verify([folder])
        for one in wrong:
            say(f"{one.in_words()}; fetching it again")
            one.file.unlink(missing_ok=True)
        if not wrong:
            say(f"{model.uri}: all files are as they were published")
    folder, fetched = publish_model(model) if input.files == "all" else publish_tokenizer(model)
    if not fetched:
        say(f"{model.uri}: already on the volume, nothing to fetch")
    return PullOutput(folder=str(folder), fetched_bytes=fetched)
