"""Versions and aliases in MLflow's model registry. Imports no torch."""

import time
from pathlib import Path
from typing import Any

from steps.common.registry.registry_errors import NotInRegistryError, registry_errors
from steps.common.registry.tracking import patient

CHAMPION = "champion"
CANDIDATE = "candidate"
CHAMPION_SINCE = "fineline.champion_since"  # tag of a version: seconds since 1970
ROLLOUT = "fineline.rollout"  # tag of a version: how its last rollout ended, or UNDER_WAY, or INTERRUPTED
UNDER_WAY, INTERRUPTED = "under way", "interrupted"
ADAPTER_FOLDER = "peft"
RESOLVED_FILE, EVALUATION_FILE = "resolved.json", "report.json"  # files of a version, beside its adapter
WITHDRAWN = "fineline.withdrawn"  # tag of a version: see `withdrawn`
# Tags of a version: hashes of its adapter's weights, of its base, and of the prepared rows that it was trained on.
ADAPTER_SHA256, BASE_DIGEST, ROWS_DIGEST = "fineline.adapter_sha256", "fineline.base_digest", "fineline.rows_digest"
RUN, BASE_URI = "fineline.run", "fineline.base_uri"  # tags of a version: the run that made it, and its pinned base
MADE_FROM = "fineline.made_from"  # tag of a version, and of an evaluated run: see `handover.made_from`
REFUSED_AGAINST = "fineline.refused_against"  # tag of a run: the champion at that time; 0: there was none


def version_at(store: Any, name: str, alias: str) -> Any | None:
    """Return the version that the alias points to, or None if there is no such model or alias.

    Raises:
        UserError: MLflow refuses.
        UnreachableError: MLflow does not answer, and so there may be such a version.
    """
    try:
        return store.get_model_version_by_alias(name, alias)
    except NotInRegistryError:
        return None


def make_champion(store: Any, name: str, version: int) -> None:
    """Point the alias to the version, after tagging the version with the time: an alias has no history.

    Whoever is killed in between has not made it the champion.
    """
    store.set_model_version_tag(name, str(version), CHAMPION_SINCE, f"{time.time():.0f}")
    store.set_registered_model_alias(name, CHAMPION, version)


def rolled_out_now(store: Any, name: str) -> list[int]:
    """Return the versions whose rollout is under way, or died and has not been put right."""
    found = store.search_model_versions(f"name = '{name}'")
    return [int(version.version) for version in found if version.tags.get(ROLLOUT) == UNDER_WAY]


def end_rollouts(store: Any, name: str) -> None:
    """Tag the versions whose rollout died: whoever calls this holds the model's serving lease, so none is under way."""
    for version in rolled_out_now(store, name):
        store.set_model_version_tag(name, str(version), ROLLOUT, INTERRUPTED)


def champion_before(store: Any, name: str) -> Any | None:
    """Return the previous champion that has not been withdrawn, or None if there was none."""
    current = version_at(store, name, CHAMPION)
    former = [
        v
        for v in store.search_model_versions(f"name = '{name}'")
        if CHAMPION_SINCE in v.tags and WITHDRAWN not in v.tags and (current is None or v.version != current.version)
    ]
    # A later one was tagged by a process that ended before it could move the alias; or another node's clock is wrong.
    earlier = [v for v in former if current is None or _champion_since(v) <= _champion_since(current)]
    return max(earlier or former, key=_champion_since, default=None)


def _champion_since(version: Any) -> float:
    return float(version.tags.get(CHAMPION_SINCE, "inf"))


def refused_run(store: Any, name: str, made_from: str, champion: int) -> str:
    """Return the run that made a candidate from the same inputs and was refused against that champion; empty if none was."""
    experiment = store.get_experiment_by_name(name)
    if experiment is None:
        return ""
    tags = {MADE_FROM: made_from, REFUSED_AGAINST: champion}
    filters = " and ".join(f"tags.`{tag}` = '{value}'" for tag, value in tags.items())
    runs = store.search_runs([experiment.experiment_id], filters, max_results=1)
    return str(runs[0].info.run_name) if runs else ""


def version_of(store: Any, name: str, adapter_sha256: str, base_digest: str) -> Any | None:
    """Return the version with this adapter on this base, or None."""
    versions = store.search_model_versions(f"name = '{name}'")
    same = {ADAPTER_SHA256: adapter_sha256, BASE_DIGEST: base_digest}
    return next((v for v in versions if same.items() <= v.tags.items()), None)


def download_adapter(store: Any, version: Any, folder: Path) -> Path:
    """Download a version's adapter into `folder`, and return the adapter's folder."""
    return download(store, version, ADAPTER_FOLDER, folder)


def download(store: Any, version: Any, part: str, folder: Path) -> Path:
    """Download a file or folder of a version into `folder`, and return its path."""
    from mlflow.artifacts import download_artifacts

    uri = store.get_model_version_download_uri(version.name, str(version.version))
    with registry_errors(store.tracking_uri), patient(store.patience):
        return Path(download_artifacts(f"{uri}/{part}", dst_path=str(folder), tracking_uri=store.tracking_uri))
