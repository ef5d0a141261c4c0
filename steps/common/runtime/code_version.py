"""The version of the running code."""

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def code_version() -> str:
    """Return the package's version, followed in a git checkout by its commit: 0.1.0+3f2c1ab."""
    try:
        number = version("fineline")
    except PackageNotFoundError:
        number = "0"
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return number
    command = ["git", "-C", str(root), "rev-parse", "--short", "HEAD"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"{number}+{answer.stdout.strip()}" if answer.returncode == 0 else number
