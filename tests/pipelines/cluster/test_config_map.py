"""The namespace's settings, as far as the person who asks can read them."""

from pathlib import Path

import pytest

from pipelines.cluster.argo_server import connect
from pipelines.cluster.config_map import asks_for_login, setting
from steps.common.runtime.errors import UserError


def test_whoever_reaches_argo_server_alone_reads_no_settings_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ARGO_SERVER", "localhost:2746")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    connection = connect("space", "")
    assert setting(connection, "FINELINE_DATA_URL") == ""
    assert not asks_for_login(connection)
    monkeypatch.delenv("ARGO_SERVER")
    with pytest.raises(UserError, match=r"^kubeconfig: .*point KUBECONFIG at "):
        connect("space", "")
