"""What each release has stored, written by that release's own code. Only paths are changed, to those of a user `ada`."""

from pathlib import Path

GOLDEN = Path(__file__).parents[1] / "golden"
RELEASES = sorted(GOLDEN.iterdir())


def golden(name: str, release: str = "0.1.0") -> Path:
    """Return the path of a stored file of a release."""
    return GOLDEN / release / name
