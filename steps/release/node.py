"""The release-node step: after the evaluation nothing needs the run's node any more, and what follows may wait for a person.

The exit handler does the same again, for runs that do not come so far, and sees the machines end.
"""

from typing import Annotated

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from steps.common.runtime.exit_codes import step
from steps.common.runtime.progress import say
from steps.release.take_back import take_back


class ReleaseNodeInput(Input):
    """Which run no longer computes."""

    run: Annotated[str, Parameter(description="The run's name")]


class ReleaseNodeOutput(Output):
    """What was given back."""

    released: str


@step
def release_node(input: ReleaseNodeInput) -> ReleaseNodeOutput:
    """Ask for the run's node no longer. Where that fails nothing else does: the exit handler tries again, and tells."""
    taken = take_back(input.run)
    released = taken.left or (taken.paid.in_words() if taken.paid else "nothing: no machine came")
    say(f"not given back yet, the end of the run will: {taken.left}" if taken.left else f"given back: {released}")
    return ReleaseNodeOutput(released=released)
