"""The retrain workflow: a run whenever base, data or recipe differ from the champion's, and the cron that starts it.

check ─ finetune (if something changed)        on exit: release
"""

from hera.workflows import DAG, CronWorkflow, Parameter, Task, WorkflowTemplate
from hera.workflows.models import TemplateRef, WorkflowTemplateRef

from pipelines.workflows import finetune
from pipelines.workflows.parameters import RUN, YES_OR_NO, references
from pipelines.workflows.step_pods.containers import API_KEY, CONTROL_IMAGE, PLAN_ACCOUNT, container
from pipelines.workflows.step_pods.reference import reference
from pipelines.workflows.templates import MAIN, ON_EXIT, add_exit_handler, shared_settings
from steps.plan.check import check

NAME = "retrain"
TITLE = "Retrain if something changed"
DESCRIPTION = (
    "Compares data, base model and recipe with the champion's. If they are the same, the run ends. Otherwise it trains a "
    "candidate, which becomes champion only through the gate and the rollout."
)
FORCE = Parameter(name="force", value="false", enum=YES_OR_NO, description="Train even if nothing has changed")
SCHEDULE = "0 3 * * *"
TIME_ZONE = "Etc/UTC"
LATE_SECONDS = (
    6 * 3600
)  # a start that was missed, for example because the controller was down, is made up for within this time


def build() -> WorkflowTemplate:
    """Return the template. Deterministic, without heavy imports."""
    with WorkflowTemplate(
        name=NAME,
        on_exit=ON_EXIT,
        arguments=[*RUN, FORCE],
        **shared_settings(TITLE, DESCRIPTION),
    ) as template:
        do_check = container(
            check,
            CONTROL_IMAGE,
            hours=1,
            memory="512Mi",
            memory_limit="4Gi",
            account=PLAN_ACCOUNT,
            reaches_out=True,
            environment=API_KEY,
        )
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
        name: name of the CronWorkflow.
        schedule: in cron syntax, or @daily and the like.
        time_zone: time zone of the schedule, as named in the tz database.
        arguments: arguments of the template that differ from its defaults.
        suspended: whether it starts no run until somebody resumes it.
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
