"""The finetune workflow: from a base model and a data file to a better model, registered and served.

    plan ─┬─ provision ────────────┬─ tune ─ evaluate ─┬─ register ─┬─ (approve) ─ rollout     on exit: release
          ├─ pull ─────────────────┤                   │            └─ (export)
          └─ tokenizer ─ prepare ──┘                   └─ (release-node)

Each task is a plain function of `steps/`, which gets its image, its volumes and its place in the order here.
"""

from typing import Any

from hera.workflows import DAG, Artifact, Env, NoneArchiveStrategy, Parameter, Suspend, WorkflowTemplate
from hera.workflows import models as m

from pipelines.workflows.parameters import RUN, references
from pipelines.workflows.step_pods.containers import (
    API_KEY,
    CONTROL_IMAGE,
    PLAN_ACCOUNT,
    PROVISION_ACCOUNT,
    PULL_HOURS,
    RELEASE_ACCOUNT,
    ROLLOUT_ACCOUNT,
    TUNE_IMAGE,
    container,
    pull_container,
)
from pipelines.workflows.step_pods.reference import reference
from pipelines.workflows.templates import MAIN, ON_EXIT, add_exit_handler, shared_settings
from steps.evaluate.report.page import PAGE
from steps.evaluate.step import evaluate
from steps.export.step import export
from steps.plan.quote.deadlines import EVALUATE_HOURS, ROLLOUT_HOURS, TUNE_HOURS
from steps.plan.step import plan
from steps.prepare.step import prepare
from steps.provision.step import provision
from steps.register.step import register
from steps.release.node import release_node
from steps.rollout.step import rollout
from steps.tune.step import tune

NAME = "finetune"
TITLE = "Tune a model on your data"
DESCRIPTION = (
    "From a base model and a data file to a better model, registered and served: plan, then provision, pull and prepare, "
    "then tune, evaluate, register and rollout."
)
# glibc raises the size above which it returns freed memory to the system during a training, and smaller blocks fragment the
# heap: on CPUs the peak is a quarter above what the tensors take (2.5 GiB against 2.0 GiB for SmolLM2-135M). A fixed size
# prevents this, and training steps take as long as before.
TUNE_ENVIRONMENT = [Env(name="MALLOC_MMAP_THRESHOLD_", value=str(4 << 20))]
REPORT = Artifact(name="page", path=str(PAGE), archive=NoneArchiveStrategy(), optional=True)
APPROVE, REJECT = "approve", "reject"


def build() -> WorkflowTemplate:
    """Return the template. Deterministic, without heavy imports."""
    with WorkflowTemplate(
        name=NAME,
        on_exit=ON_EXIT,
        arguments=RUN,
        **shared_settings(TITLE, DESCRIPTION),
    ) as template:
        add_main()
        add_exit_handler(RUN)
    return template


def add_main() -> None:
    """Add the DAG of a run, and the templates of its tasks."""
    # It gets the API key to refuse, before anything is bought, a run that could not be served.
    do_plan = container(
        plan,
        CONTROL_IMAGE,
        hours=1,
        memory="512Mi",
        memory_limit="4Gi",
        account=PLAN_ACCOUNT,
        reaches_out=True,
        environment=API_KEY,
    )
    # As long as an equal run, and then pull, which it waits for, plus a wait for each rung of the ladder.
    do_provision = container(
        provision,
        CONTROL_IMAGE,
        hours=TUNE_HOURS + EVALUATE_HOURS + PULL_HOURS + 16,
        memory="128Mi",
        account=PROVISION_ACCOUNT,
    )
    do_pull = pull_container()
    do_prepare = container(prepare, TUNE_IMAGE, hours=6, memory="512Mi", memory_limit="8Gi")
    # In days of training, many spot nodes may be reclaimed. Each time, the training resumes from its checkpoint.
    do_tune = container(
        tune, TUNE_IMAGE, hours=TUNE_HOURS, memory="2Gi", losses=100, placed=True, environment=TUNE_ENVIRONMENT
    )
    do_evaluate = container(evaluate, TUNE_IMAGE, hours=EVALUATE_HOURS, memory="1Gi", placed=True, artifacts=[REPORT])
    do_release_node = container(release_node, CONTROL_IMAGE, hours=1, memory="128Mi", account=RELEASE_ACCOUNT)
    do_register = container(register, CONTROL_IMAGE, hours=1, memory="256Mi")
    # Not placed: it needs no GPU, and the run's node is released meanwhile.
    do_export = container(export, TUNE_IMAGE, hours=12, memory="2Gi", memory_limit="16Gi")
    do_rollout = container(
        rollout, CONTROL_IMAGE, hours=ROLLOUT_HOURS, memory="256Mi", account=ROLLOUT_ACCOUNT, environment=API_KEY
    )
    approve = _approval()
    with DAG(name=MAIN):
        wanted = {name: value for name, value in references().items() if name != "approval"}
        planned = do_plan(name="plan", arguments={"run": "{{workflow.name}}", **wanted})
        resolved = {"resolved": planned.get_parameter("resolved")}
        model = {"model": planned.get_parameter("model")}
        ready = do_provision(name="provision", arguments=resolved)
        pulled = do_pull(name="pull", arguments={**model, "files": "all", "run": "{{workflow.name}}"})
        tokenizer = do_pull(name="tokenizer", arguments={**model, "files": "tokenizer"})
        folder = tokenizer.get_parameter("folder").with_name("tokenizer_folder")
        prepared = do_prepare(name="prepare", arguments=[planned.get_parameter("resolved"), folder])
        given = {
            **resolved,
            "base_folder": pulled.get_parameter("folder"),
            "rows_folder": prepared.get_parameter("folder"),
            "rows_digest": prepared.get_parameter("digest"),
            "hardware": ready.get_parameter("hardware"),
            "placement": ready.get_parameter("placement"),
        }
        tuned = do_tune(name="tune", arguments=given)
        adapter = {"adapter_folder": tuned.get_parameter("adapter_folder")}
        judged = do_evaluate(name="evaluate", arguments={**given, **adapter})
        # Register, approval, rollout and export need no GPU. If the gate refuses, the exit handler releases the node at once.
        released = do_release_node(
            name="release-node",
            arguments={"run": "{{workflow.name}}"},
            when=f"{planned.get_parameter('buys').value} == true",
        )
        to_serve = {
            **resolved,
            **adapter,
            "base_folder": pulled.get_parameter("folder"),
            "report": judged.get_parameter("report"),
        }
        of_a_version = {
            "rows_digest": prepared.get_parameter("digest"),
            "adapter_sha256": tuned.get_parameter("adapter_sha256"),
        }
        registered = do_register(name="register", arguments={**to_serve, **of_a_version})
        version = {"version": registered.get_parameter("version")}
        to_be_served = f"{planned.get_parameter('serve').value} == true"
        approved = approve(
            name="approve",
            arguments={"verdict": judged.get_parameter("verdict")},
            when=f"{to_be_served} && {reference('approval')} == true",
        )
        served = do_rollout(
            name="rollout",
            arguments={**to_serve, **version, "secrets": planned.get_parameter("secrets")},
            when=f"{to_be_served} && {approved.get_parameter('decision').value} == {APPROVE}",
        )
        exported = do_export(
            name="export",
            arguments={**resolved, **adapter, "base_folder": pulled.get_parameter("folder"), **version},
            when=f"{planned.get_parameter('export').value} == true",
        )
        planned >> [ready, pulled, tokenizer]
        tokenizer >> prepared
        [ready, pulled, prepared] >> tuned >> judged >> [registered, released]
        registered >> exported
        registered >> approved >> served


def _approval() -> Any:
    """Return the pause before the rollout, which is skipped unless the run's parameter `approval` is true.

    Resumed without a decision, as by `argo resume`, it approves. A skipped pause needs that default too:
    without one, Argo ends the run there (https://github.com/argoproj/argo-workflows/blob/main/docs/enhanced-depends-logic.md).
    """
    decision = Parameter(
        name="decision",
        default=APPROVE,
        enum=[APPROVE, REJECT],
        description="approve: roll out the new version; reject: keep it registered as candidate",
    )
    supplied = m.ValueFrom(supplied=m.SuppliedValueFrom(), default=APPROVE)
    return Suspend(
        name="approve",
        inputs=[decision, Parameter(name="verdict", description="Verdict of the evaluation")],
        outputs=[Parameter(name="decision", value_from=supplied)],
    )
