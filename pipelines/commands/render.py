"""`fineline render`: the manifests of a cluster, written or compared with what is written."""

from pathlib import Path

from pipelines.shown.shell_command import shell_command
from pipelines.workflows.rendered import differences, write
from steps.common.runtime.errors import UserError


def render(folder: str, *, check: bool) -> int:
    """Write the rendered manifests below `folder`, or with `check` only tell whether they are there as they should.

    Raises:
        UserError: with `check`, a file differs; or the folder cannot be written.
    """
    place = Path(folder)
    if check:
        if told := differences(place):
            more = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
            raise UserError(f"{told[0]}{more}; run: {shell_command('fineline render')}")
        return 0
    try:
        for path in write(place):
            print(path)
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be written: {error.strerror}") from None
    return 0
