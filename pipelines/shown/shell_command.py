"""The next command to type, as this one was typed."""

import os


def shell_command(line: str) -> str:
    """Return the line, behind `uv run` where uv started this process (it sets UV_RUN_RECURSION_DEPTH)."""
    return f"uv run {line}" if "UV_RUN_RECURSION_DEPTH" in os.environ else line
