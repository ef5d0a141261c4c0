"""Retraining: the same run, when there is something to learn that the champion has not learnt; and the cron that asks.

check ─ finetune (where something is new)        on exit: release
"""

from hera.workflows import DAG, CronWorkflow, Parameter, Task, WorkflowTemplate
from hera.workflows.models import TemplateRef, WorkflowTemplateRef

from pipelines.workflows import finetune
from pipelines.workflows.containers import CONTROL_IMAGE, container
from pipelines.workflows.parameters import RUN, YES_OR_NO, reference, references
from pipelines.workflows.templates import MAIN, ON_EXIT, add_exit_handler, common, one_at_a_time
from steps.plan.check import check

NAME = "retrain"
TITLE = "Train again where something is new"
DESCRIPTION = (
    "Compares data, base model and recipe with what the champion was made from. Where they are the same it ends there; "
    "else it trains a candidate, which becomes champion through the gate and the rollout alone."
)
FORCE = Parameter(name="force", value="false", enum=YES_OR_NO, description="Train although nothing is new")
SCHEDULE = "0 3 * * *"
TIME_ZONE = "Etc/UTC"
LATE_SECONDS = 6 * 3600  # a schedule that was missed, e.g. since the controller was down, is caught up with until then


def build() -> WorkflowTemplate:
    """Return the template; deterministic, and free of heavy imports."""
    with WorkflowTemplate(
        name=NAME,
        on_exit=ON_EXIT,
        arguments=[*RUN, FORCE],
        synchronization=one_at_a_time(reference("name")),
        **common(TITLE, DESCRIPTION),
    ) as template:
        do_check = container(check, CONTROL_IMAGE, hours=1, memory="512Mi", reaches_out=True)
        add_exit_handler(RUN)
        with DAG(name=MAIN):
            wanted = {name: value for name, value in references().items() if name != "approval"}
            checked = do_check(name="check", arguments={**wanted, "force": reference("force")})
            run = Task(
                name="finetune",
                template_ref=TemplateRef(name=finetune.NAME, template=MAIN),
                when=f"{checked.get_parameter('changed').value} == true",
            )
            checked >> run
    return template


def cron(
    name: str = NAME,
    schedule: str = SCHEDULE,
    time_zone: str = TIME_ZONE,
    arguments: dict[str, str] | None = None,
    *,
    suspended: bool = True,
) -> CronWorkflow:
    """Return a CronWorkflow of the template.

    Args:
        name: of the CronWorkflow.
        schedule: as cron writes it, or @daily and the like.
        time_zone: in which the schedule is meant, as the tz database names it.
        arguments: of the template, those that differ from its defaults.
        suspended: it is there, and begins no run until somebody lets it.
    """
    labels = {"app.kubernetes.io/part-of": "fineline"}
    return CronWorkflow(
        name=name,
        labels=labels,
        schedules=[schedule],
        timezone=time_zone,
        concurrency_policy="Forbid",
        starting_deadline_seconds=LATE_SECONDS,
        successful_jobs_history_limit=3,
        failed_jobs_history_limit=3,
        cron_suspend=suspended,
        workflow_template_ref=WorkflowTemplateRef(name=NAME),
        arguments={"recipe": "pet-store", "name": "pet-store"} if arguments is None else arguments,
    )
