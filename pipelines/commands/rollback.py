"""`fineline rollback`: an earlier version in front of the users again, and champion, on this machine or on a cluster."""

import json
import time

from rich.console import Console

from pipelines.commands.run import code
from pipelines.machine.execute import Execution
from pipelines.machine.local_workflow import read
from pipelines.machine.run_record import new_run
from pipelines.shown.display import Display
from pipelines.shown.shell_command import shell_command
from pipelines.shown.task_state import Phase
from pipelines.workflows import rollback as workflow
from steps.common.machine import servers
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import duration
from steps.common.storage import volumes


def rollback(name: str, to: str, namespace: str, context: str, *, as_json: bool) -> int:
    """Go back; where neither namespace nor context is given and the model is served on this machine, here.

    Args:
        name: of the model.
        to: the version; empty: the champion before the one that is.
        namespace: of a cluster, where Fineline is installed.
        context: of the kubeconfig.
        as_json: print JSON.

    Raises:
        UserError: the version is no number, or the model is served nowhere that is known.
    """
    if to and not to.isdigit():
        raise UserError(f"--to: a version's number is needed, not {to!r}")
    if namespace or context:
        return _on_a_cluster(name, to, namespace, context, as_json=as_json)
    if name in servers.names():
        return _here(name, to, as_json=as_json)
    here = ", ".join(servers.names()) or "nothing"
    raise UserError(
        f"no model {name!r} is served on this machine ({here} is); on a cluster, name its namespace: "
        f"{shell_command(f'fineline rollback {name} -n NAMESPACE')}"
    )


def _here(name: str, to: str, *, as_json: bool) -> int:
    machine = read(workflow.build().to_dict())
    run = new_run(f"{name}-back", machine.name, {**machine.parameters, "name": name, "version": to})
    folders = {"weights": volumes.weights(), "runs": volumes.runs()}
    started = time.monotonic()
    with Display(f"run {run.name}", [task.name for task in machine.tasks]) as display:
        ended = Execution(machine, run, folders, display.update).execute()
    took = time.monotonic() - started
    version, url = ended.outputs("restore").get("version", ""), ended.outputs("rollout").get("url", "")
    if as_json:
        told = {"run": ended.name, "phase": ended.phase.value, "exit_code": ended.exit_code, "message": ended.message}
        found = {"model": name, "version": int(version) if version else None, "url": url, "seconds": round(took, 1)}
        print(json.dumps(told | {key: value for key, value in found.items() if value}, indent=2))
        return code(ended)
    console = Console(highlight=False)
    if ended.phase is Phase.SUCCEEDED:
        console.print(f"{name} version {version} serves again, and is champion, after {duration(took)}", soft_wrap=True)
        console.print(f"at {url}", soft_wrap=True)
    else:
        ending = "refused" if ended.exit_code == 3 else ended.phase.value.lower()
        console.print(f"{ending}: {ended.message}", markup=False, soft_wrap=True)
    return code(ended)


def _on_a_cluster(name: str, to: str, namespace: str, context: str, *, as_json: bool) -> int:
    from pipelines.cluster.argo_server import connect
    from pipelines.cluster.follow import follow
    from pipelines.cluster.submission import build, installed, submit
    from pipelines.commands.submit import end

    connection = connect(namespace, context)
    installed(connection, workflow.NAME)
    run = submit(connection, build(name, {"name": name, "version": to}, workflow.NAME))
    return end(connection, follow(connection, run), as_json=as_json)
