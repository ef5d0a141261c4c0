"""Fineline's manifests for a namespace of the tests, by the few lines that a user writes for a second namespace."""

import os
from pathlib import Path
from typing import Any

import yaml

from tests.support.kubectl import ROOT, kubectl

ARGO = ROOT / "argo"
# What an installation has outside its namespace, besides a role in `default`.
OUTSIDE = "clusterrole,clusterrolebinding,validatingadmissionpolicy,validatingadmissionpolicybinding"


def overlay(folder: Path, namespace: str, *components: str, upon: str = "overlays/kind", **more: Any) -> Path:
    """Write a kustomization into a new folder, and return that.

    Args:
        folder: where to.
        namespace: the namespace to install in.
        components: of argo/components.
        upon: what it builds on, below argo.
        more: further keys of the kustomization, such as patches.
    """
    place = folder / f"overlay-{namespace}"
    place.mkdir(exist_ok=True)
    up = os.path.relpath(ARGO.resolve(), place.resolve())
    body = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": namespace,
        "resources": [f"{up}/{upon}"],
        "components": [f"{up}/components/{one}" for one in components],
        "transformers": [f"{up}/per-namespace"],
        **more,
    }
    (place / "kustomization.yaml").write_text(yaml.safe_dump(body))
    return place


def install(folder: Path, namespace: str, *components: str, upon: str = "overlays/kind", **more: Any) -> Path:
    """Install in a namespace, and return the folder of the kustomization; arguments as for `overlay`."""
    place = overlay(folder, namespace, *components, upon=upon, **more)
    kubectl("apply", "--server-side", "--force-conflicts", "--validate=strict", "-k", str(place))
    return place


def uninstall(place: Path) -> None:
    """Remove what a kustomization has installed, the namespace included."""
    kubectl("delete", "--ignore-not-found", "--timeout=180s", "-k", str(place))
