"""The settings that all templates share: service account, lifetime of pods and runs, and texts of the Argo UI."""

from typing import Any

from hera.workflows import DAG, CronWorkflow, Parameter
from hera.workflows import models as m

from pipelines.workflows.step_pods.containers import (
    CONTROL_IMAGE,
    EXECUTOR_ACCOUNT,
    POD_SECURITY,
    RELEASE_ACCOUNT,
    STEP_ACCOUNT,
    WEBHOOK,
    container,
)
from pipelines.workflows.step_pods.pod_patch import EXECUTOR
from pipelines.workflows.step_pods.reference import reference
from steps.release.step import release

DAY = 24 * 3600
MAIN, ON_EXIT = "main", "on-exit"
AT_ONCE = m.PodGC(strategy="OnPodSuccess")  # of what runs every five minutes: its pods are not kept for their logs


def shared_settings(title: str, description: str) -> dict[str, Any]:
    """Return the arguments that every WorkflowTemplate gets.

    Args:
        title: title in the UI, of the template and its runs.
        description: text below the title.
    """
    shown = {"workflows.argoproj.io/title": title, "workflows.argoproj.io/description": description}
    labels = {"app.kubernetes.io/part-of": "fineline"}
    return {
        "entrypoint": MAIN,
        "annotations": shown,
        "labels": labels,
        "workflow_metadata": m.WorkflowMetadata(labels=labels, annotations=shown),
        "service_account_name": STEP_ACCOUNT,
        "executor": m.ExecutorConfig(service_account_name=EXECUTOR_ACCOUNT),
        "pod_spec_patch": EXECUTOR,
        "security_context": POD_SECURITY,
        # The pod of a failed step stays as long as its run, for inspection.
        "pod_gc": m.PodGC(strategy="OnPodSuccess", delete_delay_duration="3600s"),
        "ttl_strategy": m.TTLStrategy(seconds_after_success=7 * DAY, seconds_after_failure=14 * DAY),
    }


def listener_settings(title: str, description: str) -> dict[str, Any]:
    """Return the arguments of a template whose step waits for a command to connect: nobody looks for its runs later."""
    soon = m.TTLStrategy(seconds_after_success=600, seconds_after_failure=DAY)
    return {**shared_settings(title, description), "ttl_strategy": soon}


def every_five_minutes(name: str) -> CronWorkflow:
    """Return the CronWorkflow that starts a template of that name, with its defaults, every five minutes."""
    return CronWorkflow(
        name=name,
        labels={"app.kubernetes.io/part-of": "fineline"},
        schedules=["*/5 * * * *"],
        timezone="Etc/UTC",
        concurrency_policy="Forbid",
        starting_deadline_seconds=240,
        successful_jobs_history_limit=1,
        failed_jobs_history_limit=3,
        workflow_template_ref=m.WorkflowTemplateRef(name=name),
    )


def add_exit_handler(parameters: list[Parameter]) -> None:
    """Add the template that runs at the end of every workflow, however it ends."""
    do_release = container(
        release, CONTROL_IMAGE, hours=1, memory="256Mi", account=RELEASE_ACCOUNT, environment=WEBHOOK
    )
    given = {p.name: reference(p.name) for p in parameters if p.name in ("recipe", "name")}
    ended = {
        "run": "{{workflow.name}}",
        "status": "{{workflow.status}}",
        "failures": "{{workflow.failures}}",
        "seconds": "{{workflow.duration}}",
    }
    with DAG(name=ON_EXIT):
        do_release(name="release", arguments={**ended, **given})
