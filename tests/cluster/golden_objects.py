"""The objects of 0.1.0: its overlay for kind, and what its rollout creates for a version that serves."""

from pathlib import Path

GOLDEN_OBJECTS = Path(__file__).parent / "golden" / "0.1.0" / "version.yaml"
GOLDEN_OVERLAY = GOLDEN_OBJECTS.with_name("kind.yaml")
