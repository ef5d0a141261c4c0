"""The table of node providers agrees with the setting, the manifests and provision."""

from pathlib import Path

import pytest

from steps.common.nodes.node_provider import PROVIDERS, NodeProvider, buys, node_provider
from steps.common.runtime.errors import UserError
from steps.common.runtime.settings import COMPUTE_SETTING
from steps.provision.step import GET_NODE
from tests.support.kubectl import ROOT


def test_every_provider_can_be_used() -> None:
    assert set(PROVIDERS) == set(GET_NODE) == set(NodeProvider)
    assert [one for one in NodeProvider if buys(one)] == [NodeProvider.KARPENTER, NodeProvider.COMPUTE_CLASS]
    assert not buys("")


@pytest.mark.parametrize("provider", list(NodeProvider))
def test_its_component_sets_it_and_brings_its_role(provider: NodeProvider) -> None:
    traits = PROVIDERS[provider]
    folder: Path = ROOT / "argo" / "components" / traits.component
    text = "\n".join(file.read_text() for file in folder.glob("*.yaml"))
    assert f"/data/{COMPUTE_SETTING}, value: {provider}" in text
    assert f"name: {traits.cluster_role_of('fineline')}\n" in text


def test_the_setting_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(COMPUTE_SETTING, raising=False)
    assert node_provider() is None
    monkeypatch.setenv(COMPUTE_SETTING, "nodes")
    assert node_provider() is NodeProvider.EXISTING_NODES
    assert node_provider("karpenter") is NodeProvider.KARPENTER
    with pytest.raises(UserError, match="FINELINE_COMPUTE is 'slurm'; choose one of karpenter, compute-class, nodes"):
        node_provider("slurm")
