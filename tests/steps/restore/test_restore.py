"""Going back to a version that an earlier release registered, in a real registry."""

import json
from pathlib import Path

import pytest

from steps.common.adapter.adapter_files import adapter_sha256
from steps.common.handover.report import read_report
from steps.common.handover.resolved import Resolved
from steps.common.registry import tracking, versions
from steps.common.runtime.errors import UserError
from steps.restore.step import RestoreInput, restore
from tests.support.golden import RELEASES


def registered(release: Path, name: str, resolved: str) -> None:
    """Register a release's version, with the tags that it had."""
    import mlflow

    store = tracking.client(tracking.default_uri())
    mlflow.set_tracking_uri(tracking.default_uri())
    mlflow.set_experiment(experiment_id=tracking.experiment(store, name))
    folder = Path(tracking.default_uri().removeprefix("sqlite:///")).parent / "to-register"
    folder.mkdir(exist_ok=True)
    for file in (release / "version").rglob("*"):
        if file.is_file():
            target = folder / file.relative_to(release / "version")
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(file.read_bytes())
    (folder / "resolved.json").write_text(resolved)
    tags = json.loads((release / "version_tags.json").read_text())
    model = mlflow.initialize_logged_model(name=name, tags=tags, model_type="adapter")
    store.log_model_artifacts(model.model_id, str(folder))
    mlflow.finalize_logged_model(model.model_id, "READY")
    mlflow.register_model(f"models:/{model.model_id}", name, tags=tags)


@pytest.mark.parametrize("release", RELEASES, ids=lambda folder: folder.name)
def test_a_version_of_each_earlier_release_is_restored(release: Path) -> None:
    registered(release, "tiny", (release / "version" / "resolved.json").read_text())
    restored = restore(RestoreInput(name="tiny", version="1"))
    assert (restored.version, restored.resolved.recipe.tune.rank) == (1, 2)
    tags = json.loads((release / "version_tags.json").read_text())
    assert adapter_sha256(Path(restored.adapter_folder)) == tags["fineline.adapter_sha256"]
    assert read_report(Path(restored.report)).passed
    assert restored.resolved.serving_plan.runtime == "transformers"
    # As the next step's parameter it is read by this release's own reader.
    assert Resolved.model_validate(json.loads(restored.resolved.model_dump_json())) == restored.resolved


def test_a_version_of_a_later_release_is_refused_in_one_line() -> None:
    resolved = json.loads((RELEASES[0] / "version" / "resolved.json").read_text())
    registered(RELEASES[0], "tiny", json.dumps({**resolved, "schema_version": 7}))
    with pytest.raises(UserError, match="written by a later release: it has schema version 7") as raised:
        restore(RestoreInput(name="tiny", version="1"))
    assert "\n" not in str(raised.value)
    assert versions.RESOLVED_FILE in str(raised.value)


def test_a_record_that_cannot_be_read_is_one_line() -> None:
    registered(RELEASES[0], "tiny", '{"recipe": {}}')
    with pytest.raises(UserError, match=r"not a resolved recipe: .*; roll back to another version") as raised:
        restore(RestoreInput(name="tiny", version="1"))
    assert "\n" not in str(raised.value)
