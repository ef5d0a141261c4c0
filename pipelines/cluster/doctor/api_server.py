"""Checks that the network policies let a step's pod reach the Kubernetes API, to which Argo's executor there reports."""

import ipaddress
import json
from dataclasses import dataclass
from typing import Any

from pipelines.cluster.connection import Connection
from pipelines.cluster.doctor import questions
from pipelines.cluster.doctor.finding import Finding, State, unknown
from pipelines.workflows.containers import PART_OF, STEP_LABEL
from steps.common.kubernetes import client
from steps.common.kubernetes.resource import Resource

SUBJECT = "network policies"
# A step that downloads nothing: its pod reaches the least.
LABELS = {PART_OF: "fineline", STEP_LABEL: "register"}
SLICES, POLICIES = Resource("discovery.k8s.io", "endpointslices"), Resource("networking.k8s.io", "networkpolicies")
CILIUM = Resource("cilium.io", "ciliumnetworkpolicies", "v2")
ADDED = "fineline-api-server"


@dataclass(frozen=True)
class Address:
    """Where the API server answers."""

    host: str
    port: int


def api_server(connection: Connection) -> list[Finding]:
    """Check every address of the API server: those behind the Service `kubernetes`, and the Service's own."""
    with questions.if_allowed():
        addresses = _addresses(connection)
        with questions.if_allowed():
            return [_finding(connection, addresses)]
        return [unknown(SUBJECT, "NetworkPolicies")]
    return [unknown(SUBJECT, "the addresses of the API server (EndpointSlices in the namespace default)")]


def _addresses(connection: Connection) -> list[Address]:
    """Return the addresses after, and before, the translation by the Service: network plugins differ in which they match."""
    found = []
    for one in SLICES.list("kubernetes.io/service-name=kubernetes", "default"):
        for endpoint in one.get("endpoints") or []:
            found += [
                Address(host, port["port"])
                for host in endpoint["addresses"]
                for port in one["ports"]
                if port.get("port")
            ]
    service = client.as_dict(connection.core.read_namespaced_service("kubernetes", "default"))["spec"]
    return found + [Address(host, port["port"]) for host in service.get("clusterIPs", []) for port in service["ports"]]


def _finding(connection: Connection, addresses: list[Address]) -> Finding:
    if CILIUM.exists and not any(_is_by_identity(one) for one in CILIUM.list(namespace=connection.namespace)):
        text = "Cilium knows the Kubernetes API by its identity, and no CiliumNetworkPolicy lets the steps reach it"
        return Finding(SUBJECT, State.MISSING, text, "add the component argo/components/cilium to your overlay")
    policies = POLICIES.list(namespace=connection.namespace)
    closed = [one for one in addresses if not allows(policies, LABELS, one)]
    if not closed:
        return Finding(SUBJECT, State.OK, "the steps may reach the Kubernetes API")
    where = ", ".join(f"{one.host} port {one.port}" for one in closed)
    text = f"no step may reach the Kubernetes API at {where}, so that no step could report its end"
    body = json.dumps(policy(closed), separators=(",", ":"))
    return Finding(SUBJECT, State.MISSING, text, f"echo '{body}' | kubectl apply -n {connection.namespace} -f -")


def policy(addresses: list[Address]) -> dict[str, Any]:
    """Return the NetworkPolicy that lets the steps reach these addresses, in addition to what the others allow."""
    egress = [
        {
            "to": [{"ipBlock": {"cidr": str(ipaddress.ip_network(one.host))}} for one in addresses if one.port == port],
            "ports": [{"protocol": "TCP", "port": port}],
        }
        for port in sorted({one.port for one in addresses})
    ]
    selector = {"matchExpressions": [{"key": STEP_LABEL, "operator": "Exists"}]}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": ADDED},
        "spec": {"podSelector": selector, "policyTypes": ["Egress"], "egress": egress},
    }


def _is_by_identity(policy: dict[str, Any]) -> bool:
    return any("kube-apiserver" in rule.get("toEntities", []) for rule in policy.get("spec", {}).get("egress", []))


def allows(policies: list[dict[str, Any]], labels: dict[str, str], address: Address) -> bool:
    """Return whether policies let a pod with the labels reach an address outside the cluster's pods."""
    egress = [
        one["spec"]
        for one in policies
        if "Egress" in one["spec"].get("policyTypes", []) and _selects(one["spec"].get("podSelector", {}), labels)
    ]
    return not egress or any(_matches(rule, address) for spec in egress for rule in spec.get("egress") or [])


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    return all(_holds(one, labels) for one in selector.get("matchExpressions") or [])


def _holds(expression: dict[str, Any], labels: dict[str, str]) -> bool:
    value, among = labels.get(expression["key"]), expression.get("values") or []
    return {
        "In": value in among,
        "NotIn": value not in among,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }[expression["operator"]]


def _matches(rule: dict[str, Any], address: Address) -> bool:
    to, ports = rule.get("to"), rule.get("ports")
    reached = not to or any(_contains(one["ipBlock"], address.host) for one in to if "ipBlock" in one)
    return reached and (not ports or any(_has_port(one, address.port) for one in ports))


def _contains(block: dict[str, Any], host: str) -> bool:
    ip = ipaddress.ip_address(host)
    return ip in ipaddress.ip_network(block["cidr"]) and not any(
        ip in ipaddress.ip_network(one) for one in block.get("except") or []
    )


def _has_port(one: dict[str, Any], port: int) -> bool:
    if one.get("protocol", "TCP") != "TCP":
        return False
    first = one.get("port")
    return first is None or (isinstance(first, int) and first <= port <= one.get("endPort", first))
