"""Going back to a version that an earlier release registered, in a real registry."""

import json
from pathlib import Path

import pytest

from steps.common.adapter.adapter_files import adapter_sha256
from steps.common.handover.report import read_report
from steps.common.handover.resolved import Resolved
from steps.common.registry import versions
from steps.common.runtime.errors import UserError
from steps.common.storage import volumes
from steps.common.weights import store
from steps.restore.step import RestoreInput, restore
from tests.support.golden import RELEASES, register_golden


@pytest.mark.parametrize("release", RELEASES, ids=lambda folder: folder.name)
def test_a_version_of_each_earlier_release_is_restored(release: Path) -> None:
    register_golden("tiny", release)
    restored = restore(RestoreInput(name="tiny", version="1"))
    assert (restored.version, restored.resolved.recipe.tune.rank) == (1, 2)
    tags = json.loads((release / "version_tags.json").read_text())
    assert adapter_sha256(Path(restored.adapter_folder)) == tags["fineline.adapter_sha256"]
    assert read_report(Path(restored.report)).passed
    assert restored.resolved.serving_plan.runtime == "transformers"
    # As the next step's parameter it is read by this release's own reader.
    assert Resolved.model_validate(json.loads(restored.resolved.model_dump_json())) == restored.resolved


def test_a_base_model_that_is_there_is_held_and_not_fetched() -> None:
    register_golden("tiny")
    given = RestoreInput(name="tiny", version="1", run="tiny-back-1", hold_hours=1)
    restored = restore(given)
    folder = Path(restored.base_folder)
    assert restored.fetch
    folder.mkdir(parents=True)
    (folder / store.MANIFEST).write_text('{"files": []}')
    assert not restore(given).fetch
    assert folder == volumes.published_model(restored.model.digest)
    assert store.holders(folder) == ["tiny-back-1"]


def test_a_version_of_a_later_release_is_refused_in_one_line() -> None:
    resolved = json.loads((RELEASES[0] / "version" / "resolved.json").read_text())
    register_golden("tiny", RELEASES[0], json.dumps({**resolved, "schema_version": 7}))
    with pytest.raises(UserError, match="written by a later release: it has schema version 7") as raised:
        restore(RestoreInput(name="tiny", version="1"))
    assert "\n" not in str(raised.value)
    assert versions.RESOLVED_FILE in str(raised.value)


def test_a_record_that_cannot_be_read_is_one_line() -> None:
    register_golden("tiny", RELEASES[0], '{"recipe": {}}')
    with pytest.raises(UserError, match=r"not a resolved recipe: .*; roll back to another version") as raised:
        restore(RestoreInput(name="tiny", version="1"))
    assert "\n" not in str(raised.value)
