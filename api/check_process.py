"""Checks a recipe in a separate process, so that what the check loads ends with it and harms no other request."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from api.api_settings import DATABASE_SETTING
from steps.common.runtime.errors import INTERRUPTED, USER_ERROR, UnreachableError, UserError

ERROR, MEMORY = "error: ", "--memory="
MIB = 1 << 20


@dataclass(frozen=True)
class CheckLimits:
    """How much a check may take."""

    seconds: float
    memory: int = 0  # in bytes; 0: no limit


def child_environment() -> dict[str, str]:
    """Return the environment for a process that checks or executes a recipe: without the database of the teams' keys."""
    inherited = {name: value for name, value in os.environ.items() if name != DATABASE_SETTING}
    # Otherwise Python would import a folder in the working directory that has the name of a Fineline package.
    return {**inherited, "PYTHONSAFEPATH": "1"}


def checked_apart(module: str, recipe: str, limits: CheckLimits, *options: str) -> str:
    """Return what a module says about a recipe, in a process of its own.

    Args:
        module: calls `answer` when it is executed.
        recipe: as text.
        limits: of the process.
        options: for the module, besides those that `answer` reads.

    Raises:
        UserError: a run of the recipe would fail, or the check needs too much memory.
        UnreachableError: something that the check needs did not answer, it takes too long, or it was stopped.
    """
    memory = [f"{MEMORY}{limits.memory}"] if limits.memory else []
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *memory, *options],
            input=recipe,
            capture_output=True,
            text=True,
            env=child_environment(),
            timeout=limits.seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UnreachableError(
            f"checking the recipe takes more than {limits.seconds / 60:.0f} minutes; use less data"
        ) from None
    # Not in a session of its own: Ctrl-C ends it together with the server, which would otherwise wait for it.
    if -done.returncode in (signal.SIGINT, signal.SIGTERM):
        raise UnreachableError("the server has stopped checking the recipe; try again")
    # Libraries that cannot allocate abort, or write to address 0; the kernel kills whatever uses the last memory.
    if done.returncode < 0:
        limit = f"takes more than {limits.memory // MIB} MiB of" if limits.memory else "needs too much"
        raise UserError(f"checking the recipe {limit} memory; use shorter rows or fewer files")
    lines = [line.removeprefix(ERROR) for line in done.stderr.splitlines() if line.startswith(ERROR)]
    if done.returncode == USER_ERROR and lines:
        raise UserError(lines[-1])
    if done.returncode == INTERRUPTED and lines:
        raise UnreachableError(lines[-1])
    if done.returncode:
        raise RuntimeError(f"the check of a recipe ended with exit code {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout.strip()


def answer(check: Callable[[str], str]) -> int:
    """Check the recipe on standard input, write the answer to standard output, and return the exit code.

    Args:
        check: returns the answer to a recipe.
    """
    from steps.common.machine.parent_death import signal_on_parent_death
    from steps.common.runtime.certificates import trust_bundle
    from steps.common.runtime.proxies import bypass_proxies
    from steps.common.runtime.redaction import redacted_streams
    from steps.common.runtime.secret import strip_secrets

    signal_on_parent_death(signal.SIGKILL)
    for memory in (int(one.removeprefix(MEMORY)) for one in sys.argv if one.startswith(MEMORY)):
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    with redacted_streams():
        trust_bundle()
        bypass_proxies()
        try:
            strip_secrets()
            print(check(sys.stdin.read()))
        except UserError as error:
            return _failed(error, USER_ERROR)
        except UnreachableError as error:
            return _failed(error, INTERRUPTED)
        except MemoryError:
            os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory runs out
    return 0


def _failed(error: Exception, code: int) -> int:
    print(f"{ERROR}{' '.join(str(error).split())}", file=sys.stderr)
    return code
