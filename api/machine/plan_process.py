"""Plans a recipe in a separate process, so that what a plan loads and measures, such as a GPU's speed, ends with it."""

import subprocess
import sys

from api.machine.child_process import child_environment
from steps.common.handover.resolved import Resolved
from steps.common.runtime.errors import INTERRUPTED, USER_ERROR, UnreachableError, UserError

BUSY = "--busy"
ERROR = "error: "
LONGEST_SECONDS = 1800.0  # to read the data of a recipe, and to try its lm-eval tasks


def planned(recipe: str, *, busy: bool) -> Resolved | None:
    """Return the plan of a recipe; None if it cannot be made while the machine is busy.

    Args:
        recipe: as text.
        busy: a run takes memory that will be free again.

    Raises:
        UserError: a run of it would fail.
        UnreachableError: something that the plan needs did not answer.
    """
    command = [sys.executable, "-m", "api.machine.plan_process", *([BUSY] if busy else [])]
    try:
        done = subprocess.run(
            command,
            input=recipe,
            capture_output=True,
            text=True,
            env=child_environment(),
            timeout=LONGEST_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UnreachableError(
            f"planning the recipe takes more than {LONGEST_SECONDS / 60:.0f} minutes; use less data"
        ) from None
    lines = [line.removeprefix(ERROR) for line in done.stderr.splitlines() if line.startswith(ERROR)]
    if done.returncode == USER_ERROR:
        raise UserError(lines[-1])
    if done.returncode == INTERRUPTED:
        raise UnreachableError(lines[-1])
    if done.returncode:
        raise RuntimeError(f"planning a recipe ended with exit code {done.returncode}: {done.stderr[-2000:]}")
    return Resolved.read(done.stdout, "the plan") if done.stdout.strip() else None


def main() -> int:
    """Plan the recipe on standard input, and write the plan to standard output; nothing if it cannot be made yet."""
    from steps.common.runtime.certificates import trust_bundle
    from steps.common.runtime.proxies import bypass_proxies
    from steps.common.runtime.redaction import redacted_streams
    from steps.common.runtime.secret import strip_secrets
    from steps.plan.quote.this_machine import TooLittleMemoryError
    from steps.plan.step import PlanInput, resolve

    busy = BUSY in sys.argv
    with redacted_streams():
        trust_bundle()
        bypass_proxies()
        try:
            strip_secrets()
            print(resolve(PlanInput(recipe=sys.stdin.read())).model_dump_json())
        except UserError as error:
            if not (busy and isinstance(error, TooLittleMemoryError)):
                return _failed(error, USER_ERROR)
        except UnreachableError as error:
            return _failed(error, INTERRUPTED)
        except RuntimeError as error:
            if not (busy and type(error).__name__ == "OutOfMemoryError"):  # torch's, which need not be loaded
                raise
    return 0


def _failed(error: Exception, code: int) -> int:
    print(f"{ERROR}{' '.join(str(error).split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
