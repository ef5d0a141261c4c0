"""A command for the user to type next, in the form in which they typed this one."""

import os


def shell_command(line: str) -> str:
    """Return the line, with `uv run` in front if uv started this process (uv sets UV_RUN_RECURSION_DEPTH)."""
    return f"uv run {line}" if "UV_RUN_RECURSION_DEPTH" in os.environ else line
