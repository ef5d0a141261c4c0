"""Fetches a backup of a namespace, or sends one there, from and to a run of the template `backup`."""

from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pipelines.cluster.argo_server import ClusterConnection
from pipelines.cluster.transfer.listening_pod import Errand, talk_to_pod
from pipelines.workflows import backup as template
from steps.backup.saved import FILE, Backup
from steps.backup.step import CREATE, RECEIVED, RESTORE
from steps.backup.stream import pack, unpack
from steps.common.port_forward.parts import PartReader, PartWriter
from steps.common.port_forward.pod_conversation import PodConversation, RefusedByOtherEndError
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import Progress
from steps.common.storage.disk_errors import disk_errors
from steps.common.storage.files import build_folder

FETCHING = Errand("the pod that makes the backup", "the backup could not be made")
SENDING = Errand("the pod that brings the backup back", "the backup could not be restored")

T = TypeVar("T")


def fetch_backup(connection: ClusterConnection, folder: Path) -> Backup:
    """Write a backup of the namespace into a new folder: whole and verified, or not at all.

    Raises:
        UserError: the template `backup` is not installed, its pod does not start, the backup cannot be made, the connection
            breaks off, or this machine's disk is full.
        UnreachableError: the registry does not answer.
    """
    found = talk_to_pod(connection, template.NAME, {"action": CREATE}, FETCHING, lambda step: _fetch(step, folder))
    return _done(found, FETCHING)


def _fetch(step: PodConversation, folder: Path) -> Backup:
    try:
        with (
            disk_errors(folder, "nothing of it is kept"),
            step.working(),
            build_folder(folder, private=True) as partial,
        ):
            found = unpack(PartReader(step, Progress(0, "MiB of the backup")), partial)
    except RefusedByOtherEndError:
        raise
    except UserError as error:
        step.refuse(str(error))
        raise
    with suppress(OSError):  # the backup is there, whatever becomes of the run
        step.tell(RECEIVED)
    return found


def send_backup(connection: ClusterConnection, folder: Path, backup: Backup) -> None:
    """Bring a backup back into the namespace.

    Args:
        connection: the cluster.
        folder: of the backup.
        backup: its content, verified.

    Raises:
        UserError: the template `backup` is not installed, its pod does not start, the step refuses the backup, or the
            connection breaks off. What is back already stays, and the same command goes on.
        UnreachableError: the registry does not answer.
    """
    size = sum((folder / name).stat().st_size for name in (FILE, *backup.files))
    wanted = {"action": RESTORE, "size": str(size)}
    _done(
        talk_to_pod(connection, template.NAME, wanted, SENDING, lambda step: _send(step, folder, backup, size)), SENDING
    )


def _send(step: PodConversation, folder: Path, backup: Backup, size: int) -> str:
    writer = PartWriter(step, Progress(size >> 20, "MiB of the backup"))
    try:
        with disk_errors(folder, "the backup was not restored"):
            pack(folder, backup, writer)
    except RefusedByOtherEndError:
        raise
    except UserError as error:
        step.refuse(str(error))
        raise
    writer.finish()
    return step.hear()


def _done(found: T | None, errand: Errand) -> T:
    if found is None:
        raise UserError(f"{errand.failed}: its run ended before it was asked; run the command again")
    return found
