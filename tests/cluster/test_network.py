"""Who may reach what, tried with pods under the network policies that the cluster enforces; not compared as text."""

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pipelines.cluster.connection import Connection
from pipelines.cluster.doctor.api_server import api_server
from pipelines.cluster.doctor.finding import State
from pipelines.workflows.step_pods.containers import POD_SECURITY, SECURITY
from tests.support.api_server_policy import open_the_api_server
from tests.support.commands import happens, wait_for
from tests.support.kubectl import ROOT, get, kubectl

SPACE, OUTSIDE = "fineline-network", "fineline-network-outside"
IMAGE = "fineline-control:0.1.0"
PART, COMPONENT, STEP = "app.kubernetes.io/part-of", "app.kubernetes.io/component", "fineline.dev/step"
OURS = {PART: "fineline"}
PODS = {
    "register": OURS | {STEP: "register"},
    "pull": OURS | {STEP: "pull", "fineline.dev/reaches": "internet"},
    "rollout": OURS | {STEP: "rollout"},
    "receive": OURS | {STEP: "receive"},
    "backup": OURS | {STEP: "backup"},
    "server": OURS | {COMPONENT: "server"},
    "gateway": OURS | {COMPONENT: "server", "fineline.dev/upstream": "base"},
    "base": OURS | {COMPONENT: "base"},
    "mlflow": OURS | {COMPONENT: "mlflow"},
    "unknown": {},
    "outsider": {},
}
PORTS = (443, 5000, 8000, 8080, 8081)
STEPS, OTHERS = ("register", "pull", "rollout"), ("server", "gateway", "base", "mlflow", "unknown")
# From where, to where, and whether a connection is made. This test listens at two addresses of the node: NODE is like one
# outside of the cluster, LINK_LOCAL like that of a cloud's metadata.
NODE, LINK_LOCAL, API = "node:80", "link-local:80", "api:6443"
TABLE = [
    *((step, "mlflow:5000", True) for step in STEPS),
    *((step, "server:8080", True) for step in STEPS),
    *((step, "server:8081", True) for step in STEPS),
    *((step, API, True) for step in STEPS),
    *((step, "names:53", True) for step in STEPS),
    *((step, API, True) for step in ("receive", "backup")),
    ("backup", "mlflow:5000", True),
    ("receive", "mlflow:5000", False),
    *((step, "server:8080", False) for step in ("receive", "backup")),
    *((step, NODE, False) for step in ("receive", "backup")),
    *((step, "outsider:8080", False) for step in ("receive", "backup")),
    ("rollout", "base:8000", True),
    ("gateway", "base:8000", True),
    ("gateway", "names:53", True),
    ("mlflow", "names:53", True),
    ("pull", NODE, True),
    ("pull", "outsider:443", True),
    ("outsider", "server:8080", True),
    ("pull", LINK_LOCAL, False),
    ("pull", "base:8000", False),
    ("pull", "outsider:8080", False),
    ("register", NODE, False),
    ("register", LINK_LOCAL, False),
    ("register", "base:8000", False),
    ("register", "outsider:8080", False),
    ("rollout", NODE, False),
    *((other, NODE, False) for other in OTHERS),
    *((other, LINK_LOCAL, False) for other in OTHERS),
    *((other, API, False) for other in OTHERS),
    *((other, "outsider:8080", False) for other in OTHERS),
    ("server", "names:53", False),
    ("server", "base:8000", False),
    ("server", "mlflow:5000", False),
    ("gateway", "mlflow:5000", False),
    ("base", "mlflow:5000", False),
    ("base", "server:8080", False),
    ("unknown", "mlflow:5000", False),
    ("unknown", "base:8000", False),
    ("outsider", "server:8081", False),
    ("outsider", "mlflow:5000", False),
    ("outsider", "base:8000", False),
    ("outsider", "gateway:8081", False),
]
LISTEN = f"""
import socket, threading
def listen(port):
    server = socket.create_server(("", port))
    while True:
        server.accept()[0].close()
for port in {PORTS}:
    threading.Thread(target=listen, args=[port]).start()
"""
CONNECT = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def connects(address):
    try:
        socket.create_connection(address, 3).close()
        return True
    except OSError:
        return False
given = json.loads(sys.argv[1])
with ThreadPoolExecutor(32) as pool:
    print(json.dumps(list(pool.map(connects, map(tuple, given)))))
"""


def pod(name: str, labels: dict[str, str]) -> dict[str, Any]:
    security = POD_SECURITY.model_dump(by_alias=True, exclude_none=True)
    main = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", LISTEN],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"cpu": "500m", "memory": "128Mi"}},
        "securityContext": SECURITY.model_dump(by_alias=True, exclude_none=True),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": OUTSIDE if name == "outsider" else SPACE, "labels": labels},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": security | {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]},
            "containers": [main],
        },
    }


@pytest.fixture(scope="module")
def addresses(images: None, crds: None) -> Iterator[dict[str, str]]:
    """The addresses of the pods and the others, once the policies hold."""
    for space in (SPACE, OUTSIDE):
        kubectl("delete", "namespace", space, "--ignore-not-found")
        kubectl("create", "namespace", space)
        kubectl("label", "namespace", space, "pod-security.kubernetes.io/enforce=restricted")
    try:
        for name, labels in PODS.items():
            kubectl("apply", "-f", "-", document=pod(name, labels))
        for space in (SPACE, OUTSIDE):
            kubectl("wait", "-n", space, "pods", "--all", "--for=condition=Ready", "--timeout=180s")
        found = dict(_pod_addresses())
        node = get("node", get("pod", "outsider", OUTSIDE)["spec"]["nodeName"], "")["status"]["addresses"]
        found["node"] = found["api"] = next(one["address"] for one in node if one["type"] == "InternalIP")
        found["link-local"] = found["names"] = "169.254.20.10"
        assert tried("outsider", [("mlflow:5000", found)]) == [True]
        kubectl("apply", "-n", SPACE, "-f", str(ROOT / "argo/base/network.yaml"))
        if not happens(lambda: tried("outsider", [("mlflow:5000", found)]) == [False], 60):
            pytest.skip("the cluster does not enforce network policies")
        yield found
    finally:
        for space in (SPACE, OUTSIDE):
            kubectl("delete", "namespace", space, "--wait=false")


def _pod_addresses() -> Iterator[tuple[str, str]]:
    for space in (SPACE, OUTSIDE):
        for one in json.loads(kubectl("get", "pods", "-n", space, "-o", "json").stdout)["items"]:
            yield one["metadata"]["name"], one["status"]["podIP"]


def tried(source: str, targets: list[tuple[str, dict[str, str]]]) -> list[bool]:
    """Return whether a pod connects to each target."""
    given = [(known[to.partition(":")[0]], int(to.partition(":")[2])) for to, known in targets]
    space = OUTSIDE if source == "outsider" else SPACE
    done = kubectl("exec", "-n", space, source, "--", "python3", "-c", CONNECT, json.dumps(given))
    found: list[bool] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def listening(addresses: dict[str, str]) -> Iterator[None]:
    """This test on the node, at both of its addresses."""
    servers = []
    try:
        for name in ("node", "link-local"):
            servers.append(socket.create_server((addresses[name], 80)))
    except OSError as error:
        for server in servers:
            server.close()
        pytest.skip(f"this test does not run on the cluster's one node, or its port 80 is taken: {error}")
    for server in servers:
        threading.Thread(target=_accept, args=[server], daemon=True).start()
    yield
    for server in servers:
        server.close()


def _accept(server: socket.socket) -> None:
    try:
        while True:
            server.accept()[0].close()
    except OSError:
        return


def test_what_the_doctor_prints_opens_the_way_to_the_api_server(addresses: dict[str, str]) -> None:
    connection = Connection(SPACE, "")
    (before,) = api_server(connection)
    if before.state is State.OK:
        assert tried("register", [(API, addresses)]) == [True]
        return
    assert before.state is State.MISSING
    assert f"{addresses['api']} port 6443" in before.text
    assert tried("register", [(API, addresses)]) == [False]
    open_the_api_server(SPACE)
    (after,) = api_server(connection)
    assert after.state is State.OK, after.text
    wait_for(lambda: tried("register", [(API, addresses)]) == [True], 120)


@pytest.mark.usefixtures("listening")
def test_each_reaches_what_it_needs_and_nothing_else(addresses: dict[str, str]) -> None:
    open_the_api_server(SPACE)
    wait_for(lambda: tried("register", [(API, addresses)]) == [True], 120)
    wrong = []
    for source in PODS:
        rows = [(to, expected) for who, to, expected in TABLE if who == source]
        results = tried(source, [(to, addresses) for to, _ in rows])
        wrong += [
            f"{source} {'reaches' if made else 'does not reach'} {to}"
            for (to, expected), made in zip(rows, results, strict=True)
            if made is not expected
        ]
    assert wrong == []
