"""Build the images of this code and load them into the node of the test cluster."""

import subprocess
from pathlib import Path

from tests.support.kubectl import CLUSTER_TOOLS, ROOT

IMAGES = ("control", "tune", "serve")
MLFLOW = "ghcr.io/mlflow/mlflow:v3.17.2"


def build_images() -> None:
    """Build every image that the cluster tests run, and load it into the node."""
    _build(MLFLOW, ROOT / "tests" / "cluster" / "mlflow")
    for name in IMAGES:
        dockerfile = str(ROOT / "images" / "Dockerfile")
        _build(f"fineline-{name}:0.1.0", ROOT, "-f", dockerfile, "--build-arg", f"CLASS={name}")


def _build(image: str, context: Path, *options: str) -> None:
    command = [str(CLUSTER_TOOLS / "image"), image, str(context), *options, "--layers"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=2400)
    assert done.returncode == 0, f"{image} could not be built:\n{done.stderr[-3000:]}"


if __name__ == "__main__":
    build_images()
