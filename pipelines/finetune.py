"""The main job as a Hera WorkflowTemplate: from a base model and a data file to a served, registered, better model.

    plan ─┬─ provision ────────────┬─ tune ─ evaluate ─ register ─ rollout        on exit: release
          ├─ pull ─────────────────┤
          └─ tokenizer ─ prepare ──┘

Each task is a plain function of `steps/`; here it gets its image, its volumes and its place in the order.
"""

from collections.abc import Callable, Sequence
from typing import Any

from hera.workflows import DAG, Env, ExistingVolume, Parameter, WorkflowTemplate, script
from hera.workflows.models import SecurityContext

from steps.common.volumes import RUNS_SETTING, WEIGHTS_SETTING
from steps.evaluate.step import evaluate
from steps.plan.step import plan
from steps.prepare.step import prepare
from steps.provision.step import provision
from steps.pull.step import pull
from steps.register.step import register
from steps.release.step import release
from steps.rollout.step import rollout
from steps.tune.step import tune

NAME = "finetune"
CONTROL_IMAGE, TUNE_IMAGE, SERVE_IMAGE = "fineline-control", "fineline-tune", "fineline-serve"
WEIGHTS_MOUNT, RUNS_MOUNT = "/weights", "/runs"
# glibc raises the size from which an allocation is given back to the system as a training goes on, and keeps what lies
# below it in a heap full of holes: on a CPU the peak is then a quarter over what the tensors take (2.5 GiB against 2.0
# for SmolLM2-135M). Once set, the size stays; a training step takes as long as before.
TUNE_ENVIRONMENT = [Env(name="MALLOC_MMAP_THRESHOLD_", value=str(4 << 20))]

PARAMETERS = [
    Parameter(name="recipe", value="pet-store", description="YAML text of a recipe, or the name of one that ships"),
    Parameter(name="model", value="", description="Model preset or URI; empty: as the recipe says"),
    Parameter(name="data", value="", description="File of training rows; empty: as the recipe says"),
    Parameter(
        name="method",
        value="recipe",
        enum=["recipe", "qlora", "lora"],
        description="qlora: base in 4 bits; lora: base in bf16; recipe: as the recipe says",
    ),
    Parameter(name="epochs", value="", description="Passes over the training rows; empty: as the recipe says"),
    Parameter(
        name="serve",
        value="recipe",
        enum=["recipe", "true", "false"],
        description="Roll the new version out; recipe: as the recipe says",
    ),
]


def _task(function: Callable[..., Any], image: str, *, weights: bool = False, environment: Sequence[Env] = ()) -> Any:
    """Wrap a step; `weights` mounts the weights volume for writing, as only pull needs it."""
    return script(
        constructor="runner",
        image=image,
        volumes=[
            ExistingVolume(
                name="weights", claim_name="fineline-weights", mount_path=WEIGHTS_MOUNT, read_only=not weights
            ),
            ExistingVolume(name="runs", claim_name="fineline-runs", mount_path=RUNS_MOUNT),
        ],
        env=[
            Env(name=WEIGHTS_SETTING, value=WEIGHTS_MOUNT),
            Env(name=RUNS_SETTING, value=RUNS_MOUNT),
            *environment,
        ],
        security_context=SecurityContext(run_as_non_root=True, allow_privilege_escalation=False),
    )(function)


def build() -> WorkflowTemplate:
    """Return the template; deterministic, and free of heavy imports."""
    values = {p.name: f"{{{{workflow.parameters.{p.name}}}}}" for p in PARAMETERS}
    with WorkflowTemplate(name=NAME, entrypoint="main", on_exit="on-exit", arguments=PARAMETERS) as template:
        do_plan = _task(plan, CONTROL_IMAGE)
        do_provision = _task(provision, CONTROL_IMAGE)
        do_pull = _task(pull, TUNE_IMAGE, weights=True)
        do_prepare = _task(prepare, TUNE_IMAGE)
        do_tune = _task(tune, TUNE_IMAGE, environment=TUNE_ENVIRONMENT)
        do_evaluate = _task(evaluate, TUNE_IMAGE)
        do_register = _task(register, CONTROL_IMAGE)
        do_rollout = _task(rollout, SERVE_IMAGE)
        do_release = _task(release, CONTROL_IMAGE)
        with DAG(name="main"):
            planned = do_plan(name="plan", arguments={"run": "{{workflow.name}}", **values})
            resolved = {"resolved": planned.get_parameter("resolved")}
            ready = do_provision(name="provision", arguments=resolved)
            pulled = do_pull(name="pull", arguments={**resolved, "files": "all"})
            tokenizer = do_pull(name="tokenizer", arguments={**resolved, "files": "tokenizer"})
            folder = tokenizer.get_parameter("folder").with_name("tokenizer_folder")
            prepared = do_prepare(name="prepare", arguments=[planned.get_parameter("resolved"), folder])
            given = {
                **resolved,
                "base_folder": pulled.get_parameter("folder"),
                "rows_folder": prepared.get_parameter("folder"),
                "rows_digest": prepared.get_parameter("digest"),
                "device": ready.get_parameter("device"),
            }
            tuned = do_tune(name="tune", arguments=given)
            adapter = {"adapter_folder": tuned.get_parameter("adapter_folder")}
            judged = do_evaluate(name="evaluate", arguments={**given, **adapter})
            common = {
                **resolved,
                **adapter,
                "base_folder": pulled.get_parameter("folder"),
                "report": judged.get_parameter("report"),
            }
            registered = do_register(
                name="register",
                arguments={
                    **common,
                    "rows_digest": prepared.get_parameter("digest"),
                    "adapter_sha256": tuned.get_parameter("adapter_sha256"),
                },
            )
            served = do_rollout(
                name="rollout",
                arguments={**common, "version": registered.get_parameter("version")},
                when=f"{planned.get_parameter('serve').value} == true",
            )
            planned >> [ready, pulled, tokenizer]
            tokenizer >> prepared
            [ready, pulled, prepared] >> tuned >> judged >> registered >> served
        with DAG(name="on-exit"):
            ended = {"run": "{{workflow.name}}", "status": "{{workflow.status}}", "recipe": values["recipe"]}
            do_release(name="release", arguments=ended)
    return template
