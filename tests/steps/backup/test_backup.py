"""A drill with real registries: a new, empty machine goes back to the champion from a backup."""

from pathlib import Path

import pytest

from pipelines.command import main
from steps.common.adapter.adapter_files import adapter_sha256
from steps.common.registry import tracking, versions
from steps.common.storage import volumes
from steps.restore.step import RestoreInput, restore
from tests.steps.backup.test_api_database import key_in, works
from tests.support.golden import register_golden


def _registry() -> None:
    """Versions 2 and 4, the champion, of which the first has a run with a curve; 1 and 3 were deleted."""
    for since in range(4):
        register_golden("tiny", tags={versions.CHAMPION_SINCE: str(since)})
    store = tracking.client(tracking.default_uri())
    run = store.create_run(tracking.experiment(store, "tiny"), run_name="refused", tags={versions.MADE_FROM: "a"})
    store.set_tag(run.info.run_id, versions.REFUSED_AGAINST, "4")
    for step in range(3):
        store.log_metric(run.info.run_id, "loss", 3.0 - step, step=step)
    store.log_text(run.info.run_id, "page", "report.html")
    store.set_terminated(run.info.run_id)
    for number in ("1", "3"):
        store.delete_model_version("tiny", number)
    store.set_registered_model_alias("tiny", versions.CHAMPION, "4")


def test_an_empty_machine_goes_back_to_the_champion_from_a_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _registry()
    key = key_in(volumes.api_database(), "pets")
    suite, ledger = volumes.sent_data("5" * 64) / "held_out.jsonl", volumes.run_folder("tiny-1") / "purchase.json"
    for file in (suite, ledger):
        file.parent.mkdir(parents=True)
        file.write_text(f"{file.name}\n")
    adapter = adapter_sha256(Path(restore(RestoreInput(name="tiny", version="4")).adapter_folder))
    folder = tmp_path / "backup"
    assert main(["backup", "create", str(folder)]) == 0
    assert "models: 1, versions: 2" in capsys.readouterr().out
    assert main(["backup", "create", str(folder)]) == 2
    assert main(["backup", "restore", str(folder)]) == 0  # it is all there

    monkeypatch.setenv("FINELINE_RUNS", str(tmp_path / "new"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    changed = folder / "volume" / suite.relative_to(suite.parents[2])
    changed.write_text("changed")
    assert main(["backup", "restore", str(folder)]) == 2
    assert "missing or changed since the backup was made" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    changed.write_text(f"{suite.name}\n")

    assert main(["backup", "restore", str(folder)]) == 0
    store = tracking.client(tracking.default_uri())
    assert sorted(int(one.version) for one in store.search_model_versions("name = 'tiny'")) == [2, 4]
    champion = versions.version_at(store, "tiny", versions.CHAMPION)
    assert champion is not None
    assert champion.version in (4, "4")
    found = restore(RestoreInput(name="tiny", version="4"))
    assert adapter_sha256(Path(found.adapter_folder)) == adapter
    assert Path(found.adapter_folder).is_relative_to(tmp_path / "new")
    assert restore(RestoreInput(name="tiny")).version == 2  # the champion before
    assert versions.refused_run(store, "tiny", "a", 4) == "refused"
    (run,) = store.search_runs([tracking.experiment(store, "tiny")], "attributes.run_name = 'refused'")
    assert [point.value for point in store.get_metric_history(run.info.run_id, "loss")] == [3.0, 2.0, 1.0]
    assert [one.path for one in store.list_artifacts(run.info.run_id)] == ["report.html"]
    for file in (suite, ledger):
        assert (tmp_path / "new" / file.relative_to(file.parents[2])).read_text() == f"{file.name}\n"

    assert works(tmp_path / "new" / "api.db", key)

    store.delete_model_version("tiny", "2")
    assert main(["backup", "restore", str(folder)]) == 2
    assert "the registry has other versions of it" in capsys.readouterr().err
