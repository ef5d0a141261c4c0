"""The backup step: sends a backup of the namespace to the command that asks for it, or brings one back that it sends.

Both are done on a connection through a port-forward, for whoever knows the token. Imports no torch.
"""

import re
import tempfile
from pathlib import Path
from typing import Annotated, Literal

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from steps.backup.backup_target import StreamTarget
from steps.backup.bring_back import bring_back, check_space, check_target
from steps.backup.create import save
from steps.backup.saved import Backup
from steps.backup.stream import unpack
from steps.common.port_forward.parts import PartReader, PartWriter
from steps.common.port_forward.pod_conversation import PodConversation
from steps.common.port_forward.token_listener import listen_once
from steps.common.registry import tracking
from steps.common.runtime.errors import UserError
from steps.common.runtime.exit_codes import step
from steps.common.runtime.progress import Progress, say
from steps.common.storage import volumes
from steps.common.storage.disk_errors import disk_errors
from steps.common.storage.files import SHA256

CREATE, RESTORE = "create", "restore"
RECEIVED = "received"  # from the command: the backup is whole, and in its place
# On the runs volume, which is large: the files of one version at a time, or the backup that is brought back, whose files are
# then moved. `prune` deletes what a killed pod has left.
STAGING = ".backup-"


class BackupInput(Input):
    """What is wanted, and by whom."""

    action: Annotated[Literal["create", "restore"], Parameter(description="Send a backup, or bring one back")]
    size: Annotated[int, Parameter(description="Size in bytes of the backup that is brought back")]
    token_sha256: Annotated[str, Parameter(description="SHA-256 of the token that the command shows, in hex")]


class BackupOutput(Output):
    """What was saved or brought back, in words."""

    summary: str


@step
def backup(input: BackupInput) -> BackupOutput:
    """Wait for the command, and do what it wants.

    Raises:
        UserError: an input is not valid, nobody connected, the connection broke off, the command could not keep the backup, or
            what it sent cannot be brought back; a backup that is not whole changes nothing.
        UnreachableError: the registry does not answer.
    """
    if not re.fullmatch(SHA256, input.token_sha256) or input.size < 0:
        raise UserError("token_sha256 is 64 hex digits, and size is a number of bytes; 'fineline backup' sets them")
    done: list[Backup] = []

    def talk(command: PodConversation) -> None:
        with (
            disk_errors(volumes.runs(), "nothing of the backup is kept"),
            command.working(),
            tempfile.TemporaryDirectory(dir=volumes.runs(), prefix=STAGING) as staging,
        ):
            if input.action == CREATE:
                done.append(_send(command, Path(staging)))
            else:
                done.append(_bring_back(command, Path(staging), input.size))

    listen_once(input.token_sha256, talk)
    say(done[0].in_words())
    return BackupOutput(summary=done[0].in_words())


def _send(command: PodConversation, staging: Path) -> Backup:
    writer = PartWriter(command, Progress(0, "MiB"))
    with StreamTarget(writer) as target:
        saved = save(target, staging)
    writer.finish()
    if (answer := command.hear()) != RECEIVED:
        raise ConnectionError(f"the answer to the end of the backup is {answer!r}")
    return saved


def _bring_back(command: PodConversation, staging: Path, size: int) -> Backup:
    check_space(size)
    store = tracking.client(tracking.default_uri())

    def check(backup: Backup) -> None:
        check_target(store, backup)  # before the rest of it is sent

    unpack(PartReader(command, Progress(size >> 20, "MiB")), staging, check)
    brought = bring_back(staging, staged=True)
    command.tell(brought.in_words())
    return brought
