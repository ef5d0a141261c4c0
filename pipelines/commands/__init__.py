"""What each command does."""

import argparse

from pipelines.machine.execute import RunningError
from pipelines.machine.local_workflow import UnsupportedError
from recipes.reader import RecipeError
from steps.common.runtime.errors import UserError

MISTAKES = (UserError, RecipeError, UnsupportedError, RunningError)


def run_command(parsed: argparse.Namespace) -> int:
    """Carry out a parsed command and return its exit code.

    Raises:
        MISTAKES: the user's mistake, in one line.
    """
    if parsed.command == "run":
        from pipelines.commands.run import resume, run

        if parsed.resume:
            return resume(parsed.resume, as_json=parsed.json)
        return run(parsed.recipe, parsed.override, as_json=parsed.json)
    if parsed.command == "plan":
        return _plan(parsed)
    if parsed.command in ("pull", "weights"):
        return _weights(parsed)
    if parsed.command == "render":
        from pipelines.commands.render import render

        return render(parsed.folder, check=parsed.check)
    if parsed.command == "doctor":
        from pipelines.cluster.connection import Connection
        from pipelines.commands.doctor import doctor

        return doctor(Connection(parsed.namespace, parsed.context), parsed.secrets, as_json=parsed.json)
    if parsed.command == "schedule":
        return _schedule(parsed)
    if parsed.command == "rollback":
        from pipelines.commands.rollback import rollback

        return rollback(parsed.name, parsed.to, parsed.namespace, parsed.context, as_json=parsed.json)
    if parsed.command in ("submit", "status", "logs", "stop"):
        return _on_the_cluster(parsed)
    from pipelines.commands import show

    if parsed.command == "presets":
        return show.gpus(as_json=parsed.json) if parsed.what == "gpus" else show.models(as_json=parsed.json)
    if parsed.command == "schema":
        return show.schema()
    if parsed.command == "runs":
        return show.runs(as_json=parsed.json)
    if parsed.action == "stop":
        return show.stop_serving(parsed.name)
    if parsed.action == "clean":
        return show.clean_serving(parsed.name)
    return show.serving_list(as_json=getattr(parsed, "json", False))


def _plan(parsed: argparse.Namespace) -> int:
    from recipes.reader import load, override_of

    recipe = load(parsed.recipe, dict(override_of(text) for text in parsed.override))
    if parsed.cloud:
        from pipelines.commands.quote import quote_for

        return quote_for(recipe, parsed.cloud, as_json=parsed.json)
    from pipelines.commands.plan import plan

    return plan(recipe, as_json=parsed.json)


def _weights(parsed: argparse.Namespace) -> int:
    from pipelines.commands import weights

    if parsed.command == "pull":
        return weights.pull(parsed.model, verify=parsed.verify)
    if parsed.verify:
        return weights.verify(as_json=parsed.json)
    if parsed.keep:
        return weights.keep(parsed.keep)
    return weights.show(as_json=parsed.json)


def _schedule(parsed: argparse.Namespace) -> int:
    from pipelines.cluster.connection import Connection
    from pipelines.commands.schedule import schedule, unschedule

    connection = Connection(parsed.namespace, parsed.context)
    if parsed.remove:
        return unschedule(connection, parsed.remove)
    return schedule(connection, parsed.recipe, parsed.override, parsed.at, parsed.time_zone)


def _on_the_cluster(parsed: argparse.Namespace) -> int:
    from pipelines.cluster.argo_server import connect
    from pipelines.commands import submit

    connection = connect(parsed.namespace, parsed.context)
    if parsed.command == "submit":
        return submit.submit(
            connection,
            parsed.recipe,
            parsed.override,
            approval=parsed.approval,
            watch=parsed.watch,
            as_json=parsed.json,
        )
    if parsed.command == "status":
        return submit.status(connection, parsed.run, watch=parsed.watch, as_json=parsed.json)
    if parsed.command == "logs":
        return submit.logs(connection, parsed.run, parsed.step)
    return submit.stop(connection, parsed.run)
