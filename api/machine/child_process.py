"""What the processes that the API starts inherit."""

import os

from api.api_settings import DATABASE_SETTING


def child_environment() -> dict[str, str]:
    """Return the environment for a process that plans or executes a run: without the database of the teams' keys."""
    inherited = {name: value for name, value in os.environ.items() if name != DATABASE_SETTING}
    # Otherwise Python would import a folder in the working directory that has the name of a Fineline package.
    return {**inherited, "PYTHONSAFEPATH": "1"}
