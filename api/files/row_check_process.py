"""Checks the rows of an upload in a separate process, so that a file that needs much memory or time harms no other request.

python -m api.files.row_check_process PATH FILENAME MOST_BYTES MEMORY_BYTES
"""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

from api.openai_errors import ApiError

MOST_MEMORY = 4 << 30  # bytes
SHARE = 1 / 3  # of the free memory, since two checks run at once
LONGEST_SECONDS = 1800.0
# All that the process inherits of the server's environment, since it reads files that nobody has checked.
INHERITED = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "TMPDIR")
MIB = 1 << 20


def checked(path: Path, filename: str, most_bytes: int) -> None:
    """Check that a run can read every row of a file; see `row_check.check_rows`.

    Raises:
        ApiError: the file cannot be used, or reading it needs too much memory or time.
    """
    from steps.common.machine.devices import memory_available

    kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
    settings = {**kept, "PYTHONSAFEPATH": "1", "PYTHONIOENCODING": "utf-8"}
    memory = min(MOST_MEMORY, int(memory_available() * SHARE))
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
        raise _too_much(f"{filename}: reading its rows takes more than {minutes}; split it") from None
    if -done.returncode in (signal.SIGINT, signal.SIGTERM):
        raise ApiError(503, f"{filename}: the server has stopped reading its rows; upload it again", wait_seconds=10)
    # Libraries in C end in different ways when they get no memory.
    if done.returncode < 0:
        raise _too_much(f"{filename}: reading its rows takes more than {memory // MIB} MiB of memory; save it as JSONL")
    if done.returncode:
        raise RuntimeError(f"the check of rows ended with code {done.returncode}: {done.stderr[-2000:].decode()}")
    if done.stdout:
        found = json.loads(done.stdout)
        raise ApiError(found["status"], found["message"], param="file", code=found["code"])


def _too_much(message: str) -> ApiError:
    return ApiError(400, message, param="file", code="invalid_file")


def main(path: str, filename: str, most_bytes: str, memory_bytes: str) -> None:
    """Check a file, and write the reason for a refusal to standard output; nothing if the file is good."""
    from api.files.row_check import check_rows
    from steps.common.machine.parent_death import signal_on_parent_death

    signal_on_parent_death(signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_DATA, (int(memory_bytes), int(memory_bytes)))
    try:
        check_rows(Path(path), filename, int(most_bytes))
    except ApiError as error:
        print(json.dumps({"status": error.status, "message": str(error), "code": error.code}))
    except MemoryError:
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory runs out


if __name__ == "__main__":
    main(*sys.argv[1:])
