"""What the processes that the API starts inherit."""

import os

from api.api_settings import DATABASE_SETTING


def child_environment() -> dict[str, str]:
    """Return the environment of a process that plans or executes a run: without the way to the keys of the teams."""
    inherited = {name: value for name, value in os.environ.items() if name != DATABASE_SETTING}
    # Otherwise a folder in the working directory that is named like one of our packages would be imported instead.
    return {**inherited, "PYTHONSAFEPATH": "1"}
