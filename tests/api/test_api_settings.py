"""The settings of the API."""

from pathlib import Path

import pytest

from api.api_settings import api_settings
from steps.common.runtime.errors import UserError


def test_without_settings_it_listens_on_this_machine_alone(tmp_path: Path) -> None:
    settings = api_settings()
    assert (settings.host, settings.port, settings.max_upload_bytes) == ("127.0.0.1", 8350, 512_000_000)
    assert settings.database == f"sqlite:///{tmp_path}/runs/api.db"


def test_each_setting_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINELINE_API_HOST", "0.0.0.0")
    monkeypatch.setenv("FINELINE_API_PORT", "80")
    monkeypatch.setenv("FINELINE_API_MAX_UPLOAD", "2GiB")
    monkeypatch.setenv("FINELINE_API_DATABASE", "postgresql+psycopg2://host/fineline")
    settings = api_settings()
    assert (settings.host, settings.port, settings.max_upload_bytes) == ("0.0.0.0", 80, 2 << 30)
    assert settings.database == "postgresql+psycopg2://host/fineline"


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("FINELINE_API_PORT", "http", "FINELINE_API_PORT: 'http' is not the number of a port"),
        ("FINELINE_API_PORT", "65536", "FINELINE_API_PORT: '65536' is not the number of a port"),
        ("FINELINE_API_MAX_UPLOAD", "much", "FINELINE_API_MAX_UPLOAD: 'much' is not a size"),
    ],
)
def test_a_value_that_is_none_is_refused(name: str, value: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=line):
        api_settings()
