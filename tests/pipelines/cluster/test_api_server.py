"""Whether network policies let a step reach an address, as the network plugin decides it."""

from typing import Any

import pytest

from pipelines.cluster.doctor.api_server import LABELS, Address, allows, policy

STEPS = {"matchExpressions": [{"key": "fineline.dev/step", "operator": "Exists"}]}


def egress(selector: dict[str, Any], *rules: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"podSelector": selector, "policyTypes": ["Egress"], "egress": list(rules)}}


def to(cidr: str, *ports: Any, excepted: tuple[str, ...] = ()) -> dict[str, Any]:
    block = {"cidr": cidr, "except": list(excepted)}
    return {"to": [{"ipBlock": block}], "ports": [{"protocol": "TCP", "port": port} for port in ports]}


DENY = egress({})
HOST = Address("192.0.2.2", 6443)


@pytest.mark.parametrize(
    ("policies", "allowed"),
    [
        ([], True),
        ([DENY], False),
        ([{"spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}], True),
        ([DENY, egress(STEPS, to("192.0.2.0/24", 6443))], True),
        ([DENY, egress(STEPS, to("192.0.2.0/24", 443))], False),
        ([DENY, egress(STEPS, to("10.0.0.0/8", 6443))], False),
        ([DENY, egress(STEPS, to("0.0.0.0/0", 6443, excepted=("192.0.2.0/24",)))], False),
        ([DENY, egress(STEPS, {"to": [{"ipBlock": {"cidr": "::/0"}}]})], False),
        ([DENY, egress(STEPS, {"ports": [{"port": 6000, "endPort": 7000}]})], True),
        ([DENY, egress(STEPS, {"ports": [{"port": 6443, "protocol": "UDP"}]})], False),
        ([DENY, egress(STEPS, {})], True),
        ([DENY, egress(STEPS, {"to": [{"namespaceSelector": {}}]})], False),
        ([DENY, egress({"matchLabels": {"fineline.dev/step": "pull"}}, {})], False),
        ([DENY, egress({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, {})], True),
        ([DENY, policy([HOST, Address("10.96.0.1", 443)])], True),
    ],
)
def test_what_the_policies_allow(policies: list[dict[str, Any]], allowed: bool) -> None:
    assert allows(policies, LABELS, HOST) is allowed


def test_the_printed_policy_opens_each_address_at_its_own_port() -> None:
    printed = [DENY, policy([HOST, Address("10.96.0.1", 443), Address("fd00::1", 443)])]
    assert allows(printed, LABELS, Address("fd00::1", 443))
    assert not allows(printed, LABELS, Address("10.96.0.1", 6443))
    assert not allows(printed, {"app.kubernetes.io/component": "server"}, HOST)
