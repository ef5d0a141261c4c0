"""The check step, the first of a retraining: is there anything that the champion was not trained on?"""

from typing import Annotated, Literal

from hera.workflows import Parameter
from hera.workflows.io import Output

from steps.common.handover.made_from import made_from
from steps.common.handover.resolved import Resolved
from steps.common.registry import tracking, versions, withdrawn
from steps.common.runtime.exit_codes import step
from steps.common.runtime.progress import say
from steps.plan.step import PlanInput, resolve


class CheckInput(PlanInput):
    """The parameters of a run, and whether it is forced."""

    force: Annotated[Literal["true", "false"], Parameter(description="Train even if nothing has changed")] = "false"


class CheckOutput(Output):
    """Whether a run is worthwhile, and why."""

    changed: bool
    verdict: str


@step
def check(input: CheckInput) -> CheckOutput:
    """Compare base commit, data and recipe with those of the champion. Trains and changes nothing.

    Raises:
        UserError: anything that would fail in a run.
        UnreachableError: a source, or MLflow, does not answer.
    """
    resolved = resolve(input)
    name, digest = resolved.recipe.name, made_from(resolved)
    store = tracking.client(resolved.tracking.uri, tracking.QUICK)
    champion = versions.version_at(store, name, versions.CHAMPION)
    refused = versions.refused_run(store, name, digest, int(champion.version) if champion else 0)
    withdrawal = withdrawn.withdrawn_with(store, name, digest)
    if withdrawal:
        changed, verdict = False, f"nothing new: {withdrawal}"
    elif refused:
        changed, verdict = False, f"nothing new: run {refused} with the same data, base and recipe was refused"
    elif champion is None:
        changed, verdict = True, f"{name} has no champion yet"
    elif champion.tags.get(versions.MADE_FROM) == digest:
        changed, verdict = (
            False,
            f"nothing new: version {champion.version} has the same data, base and recipe",
        )
    else:
        changed, verdict = True, f"changed since version {champion.version}: {_changes(champion.tags, resolved)}"
    # What was withdrawn would be trained only to be refused.
    if not changed and not withdrawal and input.force == "true":
        changed, verdict = True, f"{verdict}; training anyway because force is set"
    say(verdict)
    return CheckOutput(changed=changed, verdict=verdict)


def _changes(tags: dict[str, str], resolved: Resolved) -> str:
    new = [
        word
        for word, tag, value in (
            ("base model", versions.BASE_DIGEST, resolved.model.digest),
            ("data", "fineline.data_sha256", resolved.data.train_sha256),
        )
        if tags.get(tag) != value
    ]
    return " and ".join(new) or "recipe or held-out rows"
