"""Whether lm-eval is installed, and how much it says."""

import logging
from importlib.util import find_spec

from steps.common.runtime.errors import UserError


def check_installed(key: str) -> None:
    """Look for lm-eval without loading it.

    Args:
        key: the recipe's, that asks for it.

    Raises:
        UserError: it is not there.
    """
    if find_spec("lm_eval") is None:
        raise UserError(f"{key}: lm-eval is not installed where it is asked for: uv pip install 'fineline[lm-eval]'")


def quiet() -> None:
    """Let lm-eval and the library that reads its data sets write errors alone, and draw no bars into a step's log."""
    import datasets
    from lm_eval.api import task

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    datasets.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    task.tqdm = lambda rows, **_: rows  # a bar which only a variable stops that is read before anything is imported
