"""The check step, the first of a retraining: is there anything to learn that the champion has not learnt?"""

from typing import Annotated, Literal

from hera.workflows import Parameter
from hera.workflows.io import Output

from steps.common.handover.resolved import Resolved, made_from
from steps.common.registry import tracking, versions
from steps.common.runtime.exit_codes import step
from steps.common.runtime.progress import say
from steps.plan.step import PlanInput, resolve


class CheckInput(PlanInput):
    """What a run would be given, and whether it is wanted whatever the champion was made from."""

    force: Annotated[Literal["true", "false"], Parameter(description="Train although nothing is new")] = "false"


class CheckOutput(Output):
    """Whether a run would learn something, and what it would be."""

    changed: bool
    verdict: str


@step
def check(input: CheckInput) -> CheckOutput:
    """Compare base commit, data and recipe with what the champion was made from. Trains and changes nothing.

    Raises:
        UserError: anything that would fail in a run.
    """
    resolved = resolve(input)
    name, digest = resolved.recipe.name, made_from(resolved)
    store = tracking.client(resolved.tracking.uri)
    champion = versions.version_at(store, name, versions.CHAMPION)
    refused = versions.refused_run(store, name, digest, int(champion.version) if champion else 0)
    if refused:
        changed, verdict = False, f"nothing new: run {refused}, of the same data, base and recipe, was refused"
    elif champion is None:
        changed, verdict = True, f"{name} has no champion yet"
    elif champion.tags.get(versions.MADE_FROM) == digest:
        changed, verdict = (
            False,
            f"nothing new: version {champion.version} was made from the same data, base and recipe",
        )
    else:
        changed, verdict = True, f"new since version {champion.version}: {_what(champion.tags, resolved)}"
    if not changed and input.force == "true":
        changed, verdict = True, f"{verdict}; trained all the same, as wanted"
    say(verdict)
    return CheckOutput(changed=changed, verdict=verdict)


def _what(tags: dict[str, str], resolved: Resolved) -> str:
    new = [
        word
        for word, tag, value in (
            ("base model", "fineline.base_digest", resolved.model.digest),
            ("data", "fineline.data_sha256", resolved.data.train.sha256),
        )
        if tags.get(tag) != value
    ]
    return " and ".join(new) or "recipe or held-out rows"
