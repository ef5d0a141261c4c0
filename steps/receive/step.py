"""The receive step: takes one file of local data, and keeps it on the runs volume in a folder named after its digest."""

import re
from typing import Annotated

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from steps.common.port_forward.pod_conversation import PodConversation
from steps.common.port_forward.token_listener import listen_once
from steps.common.runtime.errors import UserError
from steps.common.runtime.exit_codes import step
from steps.common.runtime.progress import say
from steps.common.storage import volumes
from steps.common.storage.files import SHA256
from steps.receive.incoming_file import write_incoming

RECEIVED = "received"  # the last answer


class ReceiveInput(Input):
    """The file that will be sent."""

    file: Annotated[str, Parameter(description="Name of the file, without a folder")]
    sha256: Annotated[str, Parameter(description="SHA-256 of the file, in hex")]
    size: Annotated[int, Parameter(description="Size of the file in bytes")]
    token_sha256: Annotated[str, Parameter(description="SHA-256 of the token that the sender shows, in hex")]


class ReceiveOutput(Output):
    """Where the file is."""

    path: str


@step
def receive(input: ReceiveInput) -> ReceiveOutput:
    """Wait for the file, unless it is there already.

    Raises:
        UserError: an input is not valid, nobody sent the file, or what arrived is another file; nothing of it is kept.
    """
    if "/" in input.file or input.file in ("", ".", "..") or not input.file.isprintable():
        raise UserError(f"{input.file!r} is not the name of a file; give it without a folder")
    if not re.fullmatch(SHA256, input.sha256) or not re.fullmatch(SHA256, input.token_sha256) or input.size < 0:
        raise UserError(
            "sha256 and token_sha256 are 64 hex digits each, and size is a number of bytes; 'fineline submit' sets them"
        )
    if input.file.startswith(f"{volumes.UPLOADED}."):
        raise UserError(f"{input.file!r} is a name for files of the API, which deletes them; rename the file")
    path = volumes.sent_data(input.sha256) / input.file
    if path.exists():
        say(f"{path} is there already")
    else:

        def take(sender: PodConversation) -> None:
            """Take the file's bytes in parts, and answer each with the total so far, the last one with `received`."""
            write_incoming(path, input.sha256, input.size, sender.source, lambda so_far: sender.tell(str(so_far)))
            sender.tell(RECEIVED)

        listen_once(input.token_sha256, take)
        say(f"{path} is complete")
    return ReceiveOutput(path=str(path))
