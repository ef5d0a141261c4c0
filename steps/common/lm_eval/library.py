"""Whether lm-eval is installed, and how much it logs."""

import logging
from importlib.util import find_spec

from steps.common.runtime.errors import UserError


def check_installed(key: str) -> None:
    """Check that lm-eval is installed, without importing it.

    Args:
        key: the recipe's key that needs it, for the message.

    Raises:
        UserError: it is not installed.
    """
    if find_spec("lm_eval") is None:
        raise UserError(f"{key}: lm-eval is not installed here; install it: uv pip install 'fineline[lm-eval]'")


def silence() -> None:
    """Let lm-eval and datasets log errors only, and draw no progress bars into a step's log."""
    import datasets
    from lm_eval.api import task

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    datasets.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    task.tqdm = lambda rows, **_: rows  # only TQDM_DISABLE would stop this bar, and tqdm reads it when it is imported
