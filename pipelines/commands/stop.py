"""`fineline stop`: stop a run on a cluster."""

import argparse

from pipelines.shown.arguments import add_cluster

HELP = "stop a run on a cluster and release its GPU node"
DESCRIPTION = "Stop a run on a cluster. Its exit handler still runs and releases the GPU node that the run has taken."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("run", help="name of the run ('fineline status' lists the runs)")
    add_cluster(parser)


def execute(parsed: argparse.Namespace) -> int:
    """Stop the run.

    Raises:
        UserError: there is no such run, or it has already ended.
    """
    from pipelines.cluster.argo_nodes import ended
    from pipelines.cluster.argo_server import connect
    from pipelines.cluster.follow import find_run
    from steps.common.runtime.errors import UserError

    connection = connect(parsed.namespace, parsed.context)
    workflow = find_run(connection, parsed.run)
    if ended(workflow):
        raise UserError(f"run {parsed.run} has already ended: {workflow['status']['phase']}")
    connection.stop(parsed.run)
    print(f"stopping {parsed.run}; its exit handler releases the GPU node")
    return 0
