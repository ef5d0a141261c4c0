"""The pull step: the base model's files, or its tokenizer's alone, on the weights volume."""

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
            description="tokenizer: only what preparing the rows needs, so that it need not wait for the weights"
        ),
    ] = "all"
    verify: Annotated[bool, Parameter(description="Hash again what is there already")] = False
    run: Annotated[str, Parameter(description="The run that needs it: until it ends the model is not deleted")] = ""
    hold_hours: Annotated[float, Parameter(description="After which it may be deleted all the same")] = 14 * 24


class PullOutput(Output):
    """Where it is, and what it cost."""

    folder: str
    fetched_bytes: int


@step
def pull(input: PullInput) -> PullOutput:
    """Fetch and publish; at once when it is there already.

    Raises:
        UserError: the source cannot be reached or gives wrong bytes, or the volume is too small.
        InterruptedStepError: another process took over the writing; run again, it waits for that.
    """
    model = input.model
    folder = volumes.published_model(model.digest)
    if input.run and input.files == "all":
        store.hold(folder, input.run, input.hold_hours)
    if input.verify and store.intact(folder):
        wrong = verify([folder])
        for one in wrong:
            say(f"{one.in_words()}; it is fetched again")
            one.file.unlink(missing_ok=True)
        if not wrong:
            say(f"{model.uri}: every file is what it was when it was published")
    folder, fetched = publish_model(model) if input.files == "all" else publish_tokenizer(model)
    if not fetched:
        say(f"{model.uri}: already here, nothing to fetch")
    return PullOutput(folder=str(folder), fetched_bytes=fetched)
