"""`fineline logs`: print the logs of a run on a cluster."""

import argparse

from pipelines.shown.arguments import add_cluster

HELP = "print the logs of a run on a cluster"
DESCRIPTION = (
    "Print the logs of a run on a cluster, each line with the name of its step. Each attempt of a step has its own."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("run", help="name of the run ('fineline status' lists the runs)")
    parser.add_argument("step", nargs="?", default="", help="step whose log to print, for example tune (default: all)")
    add_cluster(parser)


def execute(parsed: argparse.Namespace) -> int:
    """Print the logs of all steps, or of one.

    Raises:
        UserError: there is no such run, or no pod of such a step has started.
    """
    from pipelines.cluster.argo_nodes import step_pods
    from pipelines.cluster.argo_server import connect
    from pipelines.cluster.follow import find_run, tasks_of
    from pipelines.cluster.logs import print_log
    from steps.common.runtime.errors import UserError

    connection = connect(parsed.namespace, parsed.context)
    workflow = find_run(connection, parsed.run)
    pods = step_pods(workflow, [parsed.step] if parsed.step else tasks_of(workflow))
    if not pods:
        raise UserError(f"run {parsed.run} has no logs" + (f" of a step {parsed.step!r}" if parsed.step else " yet"))
    for task, pod in pods:
        print_log(connection, task, pod)
    return 0
