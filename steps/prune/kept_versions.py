"""The registered versions whose folders are kept: those with an alias, the champion before, and each model's latest."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steps.common.adapter.adapter_files import BASE_FILE, CONFIG_FILE, AdapterBase, merged_key_of
from steps.common.registry import tracking, versions
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import say
from steps.common.storage.files import sha256_of


@dataclass
class KeptVersions:
    """What the kept versions were made from, and what is made from them."""

    numbers: dict[str, set[int]] = field(default_factory=dict)  # by model
    adapters: set[str] = field(default_factory=set)  # SHA-256 of the weights
    rows: set[str] = field(default_factory=set)  # digests of the prepared rows
    merged: set[str] = field(default_factory=set)  # keys of the merged models


def kept_versions(latest: int) -> KeptVersions:
    """Ask the registry.

    Args:
        latest: how many of each model's latest versions are kept.

    Raises:
        UnreachableError: it does not answer.
    """
    store = tracking.client(tracking.default_uri())
    kept = KeptVersions()
    for name in _models(store):
        registered = {
            int(one.version): one
            for one in store.search_model_versions(f"name = '{name}'")
            if versions.ADAPTER_SHA256 in one.tags
        }
        numbers = set(sorted(registered)[-latest:]) if latest else set()
        numbers |= {int(version) for version in store.get_registered_model(name).aliases.values()}
        if before := versions.champion_before(store, name):
            numbers.add(int(before.version))
        kept.numbers[name] = numbers & registered.keys()
        for number in kept.numbers[name]:
            _add(store, registered[number], kept)
    return kept


def _models(store: Any) -> list[str]:
    names, page = [], None
    while True:
        found = store.search_registered_models(page_token=page)
        names += [model.name for model in found]
        page = found.token
        if not page:
            return names


def _add(store: Any, version: Any, kept: KeptVersions) -> None:
    adapter = version.tags[versions.ADAPTER_SHA256]
    kept.adapters.add(adapter)
    kept.rows.add(version.tags.get(versions.ROWS_DIGEST, ""))
    with tempfile.TemporaryDirectory() as folder:
        try:
            base = versions.download(store, version, f"{versions.ADAPTER_FOLDER}/{BASE_FILE}", Path(folder))
            config = versions.download(store, version, f"{versions.ADAPTER_FOLDER}/{CONFIG_FILE}", Path(folder))
        except (UserError, OSError) as error:
            say(f"{version.name} version {version.version}: its adapter cannot be read from the registry: {error}")
            return
        kept.merged.add(merged_key_of(AdapterBase.read(base.read_text(), base), sha256_of(config), adapter))
