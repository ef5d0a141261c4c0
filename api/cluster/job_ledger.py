"""What the Workflows of a job have bought. Each continues the count of those before it, so the limits are those of the job."""

from typing import Any

from api.cluster.job_workflow import attempt_of, name_of
from api.cluster.workflow_state import SUCCEEDED, hardware_of, has_ended, with_nodes
from api.jobs.job_record import JobRecord
from api.openai_errors import BUDGET_EXHAUSTED, ApiError
from pipelines.workflows.parameters import as_text
from recipes.reader import load
from steps.common.kubernetes.workflow_objects import ended_at
from steps.common.nodes import ledger_file
from steps.common.nodes.ledger import BoughtNode

BUYS, GIVES_BACK = "provision", "release"  # tasks
NEVER_RAN = {"Omitted", "Skipped"}  # phases


def bought(run: str, attempts: int) -> list[BoughtNode]:
    """Return what a job's Workflows have bought, as far as it is saved, each node once.

    Args:
        run: of the job.
        attempts: number of its Workflows.
    """
    found: list[BoughtNode] = []
    for attempt in range(1, attempts + 1):
        ledger = ledger_file.load(name_of(run, attempt))
        # A ledger begins with those before it. One that was carried before the earlier one was saved calls a node differently.
        known = {one.since for one in found}
        found += [one for one in (ledger.machines if ledger else ()) if one.since not in known]
    return found


def with_present(machines: list[BoughtNode], workflow: dict[str, Any], now: float) -> list[BoughtNode]:
    """Return what was bought, and the node that a Workflow has got if that is not saved, up to now or to the Workflow's end."""
    got = hardware_of(with_nodes(workflow))
    if got is None or got.since in {one.since for one in machines}:
        return machines
    rung = got.rung
    price = rung.price if rung.price_at_most is None else rung.price_at_most
    if price is None:
        return machines
    present = BoughtNode(
        name=got.node,
        instance_type=rung.instance_type,
        capacity=rung.capacity,
        gpus=rung.node_gpus,
        price=rung.price,
        price_at_most=price,
        since=got.since,
        until=ended_at(workflow) or max(now, got.since),
    )
    return [*machines, present]


def dollars(machines: list[BoughtNode], now: float) -> float:
    """Return what nodes have cost; one with an unknown price counts with its highest."""
    return sum(_price(one) * one.hours(now) for one in machines)


def is_final(workflow: dict[str, Any]) -> bool:
    """Return whether a Workflow that is stopped or has ended can buy nothing any more, and all that it has bought is saved."""
    nodes = list((with_nodes(workflow).get("status", {}).get("nodes") or {}).values())
    phases = {
        name: {one.get("phase") for one in nodes if one.get("displayName") == name} for name in (BUYS, GIVES_BACK)
    }
    if phases[BUYS] <= NEVER_RAN:
        return has_ended(workflow) or bool(workflow["spec"].get("shutdown"))
    saved = ledger_file.load(workflow["metadata"]["name"])
    return has_ended(workflow) and (phases[GIVES_BACK] == {SUCCEEDED} or bool(saved and saved.offers))


def continued(
    job: JobRecord, workflow: dict[str, Any], parameters: dict[str, str], budget: float | None, now: float
) -> dict[str, str]:
    """Let the next Workflow of a job continue the count of all before, and return its parameters.

    Its plan compares the whole job with the whole budget, as the first one did.

    Args:
        job: the job.
        workflow: its latest one.
        parameters: of that Workflow.
        budget: dollars that all of the job's nodes may cost; None: no more than its recipe says.
        now: Unix time.

    Raises:
        ApiError: the job has reached its budget or its hours.
    """
    recipe, attempt = load(parameters["recipe"]), attempt_of(workflow)
    machines = with_present(bought(job.run, attempt), workflow, now)
    own, hours = recipe.compute.max_cost, recipe.compute.max_hours
    most = min((one for one in (own, budget) if one), default=0.0)
    cost = sum((one.price_at_most or _price(one)) * one.hours(now) for one in machines)
    if (most and cost >= most) or (hours and sum(one.hours(now) for one in machines) >= hours):
        raise ApiError(
            400,
            f"{job.id} has reached compute.max_cost or compute.max_hours; create a job with a higher limit, which continues "
            "from the checkpoint",
            code=BUDGET_EXHAUSTED,
        )
    if machines:
        ledger_file.carry(name_of(job.run, attempt + 1), machines)
    if most == own:
        return parameters
    compute = recipe.compute.model_copy(update={"max_cost": most})
    return {**parameters, "recipe": as_text(recipe.model_copy(update={"compute": compute}))}


def _price(one: BoughtNode) -> float:
    return (one.price_at_most if one.price is None else one.price) or 0.0
