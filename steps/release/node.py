"""The release-node step: nothing after the evaluation needs the run's node, and what follows may wait for an approval.

The exit handler gives back again, for runs that do not get this far, and waits until the nodes have terminated.
"""

from typing import Annotated

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from steps.common.runtime.exit_codes import step
from steps.common.runtime.progress import say
from steps.release.give_back import give_back


class ReleaseNodeInput(Input):
    """The run that no longer needs its node."""

    run: Annotated[str, Parameter(description="The run's name")]


class ReleaseNodeOutput(Output):
    """What was given back."""

    released: str


@step
def release_node(input: ReleaseNodeInput) -> ReleaseNodeOutput:
    """Give the run's node back. A failure here fails nothing else: the exit handler tries again and reports it."""
    given = give_back(input.run)
    released = given.problem or (given.cost.in_words() if given.cost else "nothing: no node was bought")
    if given.problem:
        say(f"not given back yet, the exit handler tries again: {given.problem}")
    else:
        say(f"given back: {released}")
    return ReleaseNodeOutput(released=released)
