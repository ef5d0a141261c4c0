"""Fineline in a namespace of the tests, ready to work, and people who use it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from pipelines.cluster.doctor.admission import ENFORCE, RESTRICTED
from tests.support import argo_controller
from tests.support.api_server_policy import open_the_api_server
from tests.support.commands import wait_for
from tests.support.kubectl import kubectl
from tests.support.overlay import install, uninstall


@contextmanager
def installed(namespace: str, folder: Path, *components: str) -> Iterator[None]:
    """Install Fineline in a new namespace as the README says, with its Deployments ready and writable volumes.

    Args:
        namespace: its name; one that is there already is deleted first.
        folder: for the kustomization.
        components: of argo/components, in addition to those of the overlay.
    """
    kubectl("delete", "namespace", namespace, "--ignore-not-found")
    place = install(folder, namespace, *components)
    argo_controller.admit(namespace)
    open_the_api_server(namespace)
    bundle = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
    if Path(bundle).is_file():
        # A step's pod needs the same certificates as this machine to reach the package index.
        command = ["create", "configmap", "fineline-certificates", "-n", namespace, f"--from-file=ca.crt={bundle}"]
        kubectl(*command)
    _open_volumes(namespace)
    kubectl("wait", "-n", namespace, "--for=condition=Available", "deployment", "--all", "--timeout=300s")
    yield
    if not os.environ.get("FINELINE_KEEP_NAMESPACE"):
        # A namespace waits for half of its pods' longest grace period, which are minutes here, even if they end in seconds.
        kubectl("delete", "deployments", "--all", "-n", namespace, "--cascade=foreground", "--timeout=180s")
        uninstall(place)
        # Deleting the namespace also releases the storage of its volumes.
        claims = ["get", "pv", "-o", "jsonpath={.items[*].spec.claimRef.namespace}"]
        wait_for(lambda: namespace not in kubectl(*claims).stdout.split())


def _open_volumes(namespace: str) -> None:
    """Make the volumes writable for the steps' user: hostPath volumes belong to root and ignore fsGroup."""
    names = ["get", "persistentvolumeclaims", "-n", namespace, "-o", "jsonpath={.items[*].metadata.name}"]
    claims = kubectl(*names).stdout.split()
    volumes = [{"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in claims]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "open-volumes", "namespace": namespace},
        "spec": {
            "restartPolicy": "Never",
            "containers": [
                {
                    "name": "main",
                    "image": "fineline-control:0.1.0",
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["chmod", "0777", *(f"/{claim}" for claim in claims)],
                    "volumeMounts": [{"name": claim, "mountPath": f"/{claim}"} for claim in claims],
                    "securityContext": {"runAsUser": 0},
                }
            ],
            "volumes": volumes,
        },
    }
    kubectl("label", "namespace", namespace, f"{ENFORCE}=privileged", "--overwrite")
    kubectl("apply", "-f", "-", document=pod)
    kubectl("label", "namespace", namespace, f"{ENFORCE}={RESTRICTED}", "--overwrite")
    phase = ["get", "pod", "open-volumes", "-n", namespace, "-o", "jsonpath={.status.phase}"]
    wait_for(lambda: kubectl(*phase).stdout == "Succeeded", 120)
    kubectl("delete", "pod", "open-volumes", "-n", namespace)


@contextmanager
def bound_to_fineline_user(namespace: str, folder: Path) -> Iterator[dict[str, str]]:
    """Yield the environment of somebody who is bound to fineline-user in a namespace, and to nothing else."""
    kubectl("create", "serviceaccount", "pat", "-n", namespace)
    kubectl(
        "create", "rolebinding", "pat", "-n", namespace, "--role=fineline-user", f"--serviceaccount={namespace}:pat"
    )
    token = kubectl("create", "token", "pat", "-n", namespace).stdout.strip()
    config = yaml.safe_load(kubectl("config", "view", "--raw", "--minify").stdout)
    config["users"][0]["user"] = {"token": token}
    file = folder / f"{namespace}.kubeconfig"
    file.write_text(yaml.safe_dump(config))
    yield {"KUBECONFIG": str(file)}
    kubectl("delete", "rolebinding,serviceaccount", "pat", "-n", namespace)
