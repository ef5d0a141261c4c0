"""The release-node step: after the evaluation nothing needs the run's node any more, and what follows may wait for a person.

The exit handler does the same again, for runs that do not come so far, and sees the machines end.
"""

from typing import Annotated

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from steps.common.progress import say
from steps.common.step import step
from steps.release.paid import or_why_not, paid


class ReleaseNodeInput(Input):
    """Which run no longer computes."""

    run: Annotated[str, Parameter(description="The run's name")]


class ReleaseNodeOutput(Output):
    """What was given back."""

    released: str


@step
def release_node(input: ReleaseNodeInput) -> ReleaseNodeOutput:  # noqa: A002 - the name is Argo's
    """Ask for the run's node no longer. Where that fails nothing else does: the exit handler tries again, and tells."""
    _, left = or_why_not(input.run)
    found = paid(input.run)
    released = left or (found.in_words() if found else "nothing: the machines were there before")
    say(f"given back: {released}" if not left else f"not given back yet, the end of the run will: {left}")
    return ReleaseNodeOutput(released=released)
