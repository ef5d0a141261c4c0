"""`fineline rollback`: serve an earlier version again, on this machine or on a cluster."""

import argparse
import os

from pipelines.shown.arguments import add_cluster, add_json

HELP = "serve an earlier version of a model again, here or on a cluster"
DESCRIPTION = (
    "Serve an earlier version of a model again and make it the champion. Without -n and --context, the model is the one "
    "served on this machine, or with --version one that was made or restored on it. The version that served is withdrawn: no "
    "retraining serves it again by itself."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("name", help="name of the model")
    parser.add_argument(
        "--version",
        "--to",
        dest="version",
        metavar="VERSION",
        default="",
        help="version to serve (default: the champion before the current one)",
    )
    parser.add_argument("--why", metavar="TEXT", default="", help="why; it stands with the version that is withdrawn")
    parser.add_argument("--force", action="store_true", help="serve the version even if it has been withdrawn")
    add_cluster(parser)
    add_json(parser)


def execute(parsed: argparse.Namespace) -> int:
    """Roll back: on this machine unless a namespace or a context is given.

    Raises:
        UserError: the version is not a number, or this machine neither serves the model nor has the named version.
    """
    from pipelines.shown.shell_command import shell_command
    from steps.common.machine import servers
    from steps.common.runtime.errors import UserError

    if parsed.version and not parsed.version.isdigit():
        raise UserError(f"--version: {parsed.version!r} is not a version number; give one such as 3")
    if parsed.force and not parsed.version:
        raise UserError("--force: name the version that is to be served although it was withdrawn, with --version")
    if parsed.namespace or parsed.context:
        return _on_a_cluster(parsed)
    if parsed.name in servers.names() or _is_registered_here(parsed):
        return _here(parsed)
    served = ", ".join(servers.names()) or "none"
    raise UserError(
        f"model {parsed.name!r} is not served on this machine (served models: {served}); for a cluster, give its "
        f"namespace: {shell_command(f'fineline rollback {parsed.name} -n NAMESPACE')}"
    )


def _is_registered_here(parsed: argparse.Namespace) -> bool:
    """Return whether the version that is named was made on this machine, or restored on it from a backup."""
    from steps.common.registry import tracking, versions
    from steps.common.registry.registry_errors import NotInRegistryError
    from steps.common.storage import volumes

    if not parsed.version or not (os.environ.get("MLFLOW_TRACKING_URI") or (volumes.runs() / "mlflow.db").exists()):
        return False
    try:
        found = tracking.client(tracking.default_uri(), tracking.QUICK).get_model_version(parsed.name, parsed.version)
    except NotInRegistryError:
        return False
    # A registry may be shared with a cluster, where the version is served: its run is not one of this machine.
    run = found.tags.get(versions.RUN, "")
    return bool(run) and volumes.run_folder(run).is_dir()


def _parameters(parsed: argparse.Namespace, by: str) -> dict[str, str]:
    given = {"name": parsed.name, "version": parsed.version, "why": parsed.why, "by": by}
    return {**given, "force": "true" if parsed.force else "false"}


def _here(parsed: argparse.Namespace) -> int:
    import getpass
    import json
    import time

    from rich.console import Console

    from pipelines.machine.local_workflow import read
    from pipelines.machine.run_here import exit_code_of, run_here
    from pipelines.machine.run_record import new_run
    from pipelines.shown.task_state import Phase
    from pipelines.workflows.rollback import build
    from steps.common.runtime.errors import GATE_REFUSED
    from steps.common.runtime.progress import duration

    workflow, name = read(build().to_dict()), parsed.name
    wanted = {**workflow.parameters, **_parameters(parsed, getpass.getuser())}
    run = new_run(f"{name}-back", workflow.name, wanted)
    started = time.monotonic()
    ended = run_here(workflow, run)
    took = time.monotonic() - started
    version, url = ended.outputs("restore").get("version", ""), ended.outputs("rollout").get("url", "")
    if parsed.json:
        result = {"run": ended.name, "phase": ended.phase.value, "exit_code": ended.exit_code, "message": ended.message}
        found = {"model": name, "version": int(version) if version else None, "url": url, "seconds": round(took, 1)}
        print(json.dumps(result | {key: value for key, value in found.items() if value}, indent=2))
        return exit_code_of(ended)
    console = Console(highlight=False, soft_wrap=True)
    if ended.phase is Phase.SUCCEEDED:
        console.print(
            f"{name} version {version} is the champion and is served again, after {duration(took)}", markup=False
        )
        console.print(f"at {url}", markup=False)
    else:
        ending = "refused" if ended.exit_code == GATE_REFUSED else ended.phase.value.lower()
        console.print(f"{ending}: {ended.message}", markup=False)
    return exit_code_of(ended)


def _on_a_cluster(parsed: argparse.Namespace) -> int:
    from pipelines.cluster.argo_server import connect
    from pipelines.cluster.cluster_result import print_result
    from pipelines.cluster.follow import follow
    from pipelines.cluster.submission import build, installed, submit
    from pipelines.workflows.rollback import NAME

    connection = connect(parsed.namespace, parsed.context)
    installed(connection, NAME)
    run = submit(connection, build(parsed.name, _parameters(parsed, connection.user()), NAME))
    return print_result(connection, follow(connection, run), as_json=parsed.json)
