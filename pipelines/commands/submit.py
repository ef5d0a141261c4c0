"""`fineline submit`: run the workflow on a cluster."""

import argparse

from pipelines.shown.arguments import add_cluster, add_json, add_recipe, add_watch, load_recipe

HELP = "run the whole workflow on a cluster"
DESCRIPTION = (
    "Submit a run of the whole workflow to a cluster on which Fineline is installed. Data files of this machine are "
    "uploaded first."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_recipe(parser)
    add_cluster(parser)
    add_watch(parser)
    add_json(parser)
    parser.add_argument("--approval", action="store_true", help="wait for a person's approval before the rollout")


def execute(parsed: argparse.Namespace) -> int:
    """Submit a recipe.

    Raises:
        RecipeError: the recipe cannot be used.
        UserError: its data cannot be used, or the cluster refuses the run.
    """
    import json

    from pipelines.cluster.argo_server import connect
    from pipelines.cluster.cluster_result import print_result
    from pipelines.cluster.follow import follow
    from pipelines.cluster.submission import build, installed, submit
    from pipelines.cluster.transfer.send_data import with_data_in_reach
    from pipelines.shown.shell_command import shell_command
    from pipelines.workflows.parameters import as_text

    connection = connect(parsed.namespace, parsed.context)
    recipe = load_recipe(parsed)
    installed(connection)
    sent = with_data_in_reach(connection, recipe)
    parameters = {"recipe": as_text(sent), "name": recipe.name, "secrets": recipe.secrets}
    if parsed.approval:
        parameters["approval"] = "true"
    run = submit(connection, build(recipe.name, parameters))
    if parsed.watch:
        return print_result(connection, follow(connection, run), as_json=parsed.json)
    if parsed.json:
        print(json.dumps({"run": run, "namespace": connection.namespace}))
    else:
        print(f"submitted: {run}")
        print(f"follow it with: {shell_command(f'fineline status {run} -n {connection.namespace} --watch')}")
    return 0
