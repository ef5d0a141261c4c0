"""Checks the rows of an upload in a process of its own: a file that takes much memory or time harms no other request.

python -m api.files.row_check_process PATH FILENAME MOST_BYTES MEMORY_BYTES
"""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

from api.openai_errors import ApiError

AT_ONCE = 2
MOST_MEMORY = 4 << 30  # bytes
LONGEST_SECONDS = 1800.0
# Nothing else of this server's environment is for what reads files of others.
INHERITED = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "TMPDIR")
MIB = 1 << 20

_slots = threading.BoundedSemaphore(AT_ONCE)


def checked(path: Path, filename: str, most_bytes: int) -> None:
    """Check that a run can read every row of a file; see `row_check.check_rows`.

    Raises:
        ApiError: it cannot be used, or takes too much memory or time to be read.
    """
    from steps.common.machine.devices import memory_available

    kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
    settings = {**kept, "PYTHONSAFEPATH": "1", "PYTHONIOENCODING": "utf-8"}
    with _slots:
        memory = min(MOST_MEMORY, memory_available() // (AT_ONCE + 1))
        command = [sys.executable, "-m", __name__, str(path), filename, str(most_bytes), str(memory)]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=settings,
                timeout=LONGEST_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            minutes = f"{LONGEST_SECONDS / 60:.0f} minutes"
            raise _too_much(f"{filename}: its rows could not be read in {minutes}; divide it") from None
    if done.returncode == -signal.SIGKILL:
        raise _too_much(f"{filename}: takes more than {memory // MIB} MiB of memory to be read; save it as JSONL")
    if done.returncode:
        raise RuntimeError(f"the check of rows ended with code {done.returncode}: {done.stderr[-2000:].decode()}")
    if done.stdout:
        found = json.loads(done.stdout)
        raise ApiError(found["status"], found["message"], param="file", code=found["code"])


def _too_much(message: str) -> ApiError:
    return ApiError(400, message, param="file", code="invalid_file")


def main(path: str, filename: str, most_bytes: str, memory_bytes: str) -> None:
    """Check, and write why the file is refused to standard output; nothing if it is not."""
    from api.files.row_check import check_rows
    from steps.common.machine.parent_death import signal_on_parent_death

    signal_on_parent_death(signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_DATA, (int(memory_bytes), int(memory_bytes)))
    try:
        check_rows(Path(path), filename, int(most_bytes))
    except ApiError as error:
        print(json.dumps({"status": error.status, "message": str(error), "code": error.code}))
    except MemoryError:
        os.kill(os.getpid(), signal.SIGKILL)  # as the system would


if __name__ == "__main__":
    main(*sys.argv[1:])
