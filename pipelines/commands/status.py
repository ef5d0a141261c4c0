"""`fineline status`: show the runs on a cluster, or one of them."""

import argparse
import json
from typing import TYPE_CHECKING, Any

from pipelines.shown.arguments import add_cluster, add_json, add_watch

if TYPE_CHECKING:
    from pipelines.cluster.argo_server import ClusterConnection

HELP = "list the runs on a cluster, or show one of them"
DESCRIPTION = (
    "List the runs on a cluster, the newest first, or show the steps and the result of one run. Runs that keep the "
    "installation in order, such as 'prune' and 'recover', are listed if they have failed."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("run", nargs="?", default="", help="name of the run to show (default: list the runs)")
    parser.add_argument("--all", action="store_true", help="list also the runs that keep the installation in order")
    add_cluster(parser)
    add_watch(parser)
    add_json(parser)


def execute(parsed: argparse.Namespace) -> int:
    """Show one run, or list all.

    Raises:
        UserError: there is no such run, or the cluster is unreachable.
    """
    from pipelines.cluster.argo_server import connect
    from pipelines.cluster.cluster_result import print_result
    from pipelines.cluster.follow import follow

    connection = connect(parsed.namespace, parsed.context)
    if not parsed.run:
        return _list(connection, everything=parsed.all, as_json=parsed.json)
    if parsed.watch:
        return print_result(connection, follow(connection, parsed.run), as_json=parsed.json)
    return _show(connection, parsed.run, as_json=parsed.json)


def _show(connection: "ClusterConnection", run: str, *, as_json: bool) -> int:
    from pipelines.cluster.argo_nodes import ended
    from pipelines.cluster.cluster_result import print_result, result_of
    from pipelines.cluster.follow import all_tasks, find_run
    from pipelines.shown.display import MARKS
    from pipelines.shown.table import print_table
    from steps.common.runtime.progress import duration

    workflow = find_run(connection, run)
    if as_json:
        print(json.dumps(result_of(workflow), indent=2))
        return 0
    rows = [
        (MARKS[state.phase], task, duration(state.seconds) if state.seconds else "", progress or state.message)
        for task, (state, progress) in all_tasks(workflow).items()
    ]
    print_table(f"{run}: {workflow.get('status', {}).get('phase', 'Pending')}", ["", "step", "took", ""], rows)
    return print_result(connection, workflow, as_json=False) if ended(workflow) else 0


def _list(connection: "ClusterConnection", *, everything: bool, as_json: bool) -> int:
    from pipelines.cluster.argo_nodes import outputs
    from pipelines.cluster.cluster_result import result_of
    from pipelines.shown.shell_command import shell_command
    from pipelines.shown.table import print_table

    listed = [run for run in connection.runs() if everything or _is_of_interest(run)]
    found = sorted(listed, key=lambda w: w["metadata"]["creationTimestamp"], reverse=True)
    if as_json:
        print(json.dumps([result_of(workflow) for workflow in found], indent=2))
        return 0
    if not found:
        submit = shell_command(f"fineline submit -n {connection.namespace}")
        print(f"no runs in namespace {connection.namespace}; start one with: {submit}")
        return 0
    rows = [
        (
            w["metadata"]["name"],
            w["metadata"]["creationTimestamp"],
            w.get("status", {}).get("phase", "Pending"),
            outputs(w, "register").get("version", ""),
        )
        for w in found
    ]
    print_table(f"runs in {connection.namespace}", ["run", "submitted", "phase", "version"], rows)
    return 0


def _is_of_interest(workflow: dict[str, Any]) -> bool:
    """Return whether a person has started a run or scheduled it, or would want to know that it has failed."""
    from pipelines.workflows import prune, reaper, receive, recover

    template = workflow["spec"].get("workflowTemplateRef", {}).get("name")
    housekeeping = template in (prune.NAME, reaper.NAME, receive.NAME, recover.NAME)
    return not housekeeping or workflow.get("status", {}).get("phase") in ("Failed", "Error")
