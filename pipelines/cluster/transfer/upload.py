"""Sends a local data file to the runs volume, to a run of the template `receive` that waits for it."""

from pathlib import Path

from pipelines.cluster.argo_server import ClusterConnection
from pipelines.cluster.transfer.listening_pod import Errand, talk_to_pod
from pipelines.workflows import receive
from pipelines.workflows.step_pods.containers import RUNS_MOUNT
from steps.common.port_forward.parts import PART
from steps.common.port_forward.pod_conversation import PodConversation
from steps.common.runtime.progress import Progress
from steps.receive.step import RECEIVED

ERRAND = Errand("the pod that receives the data", "the data could not be received")


def upload(connection: ClusterConnection, file: Path, name: str, sha256: str) -> str:
    """Send the file to the runs volume, unless it is there already, and return its path inside a step.

    Args:
        connection: the cluster.
        file: of this machine.
        name: that it gets there.
        sha256: of its content.

    Raises:
        UserError: the template `receive` is not installed, its pod does not start, or the file does not arrive.
    """
    wanted = {"file": name, "sha256": sha256, "size": str(file.stat().st_size)}
    talk_to_pod(connection, receive.NAME, wanted, ERRAND, lambda receiver: _send(receiver, file))
    return f"{RUNS_MOUNT}/data/{sha256[:16]}/{name}"


def _send(receiver: PodConversation, file: Path) -> None:
    progress, sent = Progress(file.stat().st_size >> 10, f"KiB of {file.name}"), 0
    with file.open("rb") as source:
        part = source.read(PART)
        while True:
            receiver.send(part)
            answer = receiver.hear()
            sent += len(part)
            progress.update(sent >> 10)
            part = source.read(PART)
            if answer == RECEIVED:
                return
            if answer != str(sent) or not part:
                raise ConnectionError(f"{file} did not arrive on the runs volume")
