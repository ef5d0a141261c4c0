"""Which files of a repository on the hub are a configuration and a split: by its card, else by the usual names.

As the library `datasets` decides it: https://huggingface.co/docs/datasets/repository_structure
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from steps.common.rows.files.file_kind import is_known
from steps.common.runtime.errors import UserError
from steps.plan.data.file_names import by_usual_names, matching

CARD = "README.md"
FRONT_MATTER = re.compile(r"\A---\s*\n(?P<yaml>.*?)\n---\s*(\n|\Z)", re.DOTALL)
DEFAULT = "default"


@dataclass(frozen=True)
class WantedSplit:
    """What of a data set is asked for."""

    url: str  # for messages
    config: str  # empty: the one that counts when none is named
    split: str


@dataclass(frozen=True)
class Repository:
    """A repository at a commit."""

    name: str  # ORG/NAME
    files: Sequence[str]
    card: str  # content of its README.md
    converted: (
        bool  # the branch refs/convert/parquet, with a folder for each configuration, and in it one for each split
    )


def files_of_split(wanted: WantedSplit, repository: Repository) -> list[str]:
    """Return the names of a split's files.

    Raises:
        UserError: there is no such configuration or split, several configurations and none is named, or the data set is
            made by a script.
    """
    if repository.converted:
        return _of_converted(wanted, repository.files)
    configs = _configs(wanted.url, repository.card)
    if configs:
        return _of_card(wanted, configs[_chosen(wanted, configs)], repository.files)
    rows = [name for name in repository.files if is_known(name)]
    if not rows and f"{repository.name.rpartition('/')[2]}.py" in repository.files:
        raise UserError(
            f"{wanted.url}: its rows are made by a script, which is not run; the hub may have them as Parquet: "
            f"hf://datasets/{repository.name}@refs/convert/parquet"
        )
    if wanted.config and wanted.config != DEFAULT:
        rows = [name for name in rows if name.startswith(f"{wanted.config}/")]
        if not rows:
            raise UserError(f"{wanted.url}: has neither a configuration nor a folder {wanted.config!r}")
    if not rows:
        raise UserError(f"{wanted.url}: has no file of rows")
    return _split(wanted, by_usual_names(rows))


def _of_converted(wanted: WantedSplit, files: Sequence[str]) -> list[str]:
    configs: dict[str, dict[str, list[str]]] = {}
    for name in files:
        config, _, rest = name.partition("/")
        split, _, file = rest.partition("/")
        if file and is_known(file):
            configs.setdefault(config, {}).setdefault(split, []).append(name)
    if not configs:
        raise UserError(f"{wanted.url}: has no file of rows")
    return _split(wanted, configs[_chosen(wanted, configs)])


def _configs(url: str, card: str) -> dict[str, dict[str, Any]]:
    """Return the configurations of a card by name."""
    found = FRONT_MATTER.match(card.lstrip("\ufeff").replace("\r\n", "\n"))
    try:
        content = yaml.safe_load(found["yaml"]) if found else None
    except yaml.YAMLError:
        raise UserError(
            f"{url}: the card of the data set ({CARD}) begins with what is not YAML; name files instead"
        ) from None
    listed = content.get("configs") if isinstance(content, dict) else None
    listed = listed if isinstance(listed, list) else []
    return {str(one.get("config_name", DEFAULT)): one for one in listed if isinstance(one, dict)}


def _chosen(wanted: WantedSplit, configs: dict[str, Any]) -> str:
    if wanted.config:
        if wanted.config in configs:
            return wanted.config
        raise UserError(f"{wanted.url}: has no configuration {wanted.config!r}; it has {', '.join(configs)}")
    marked = [
        name for name, one in configs.items() if name == DEFAULT or (isinstance(one, dict) and one.get(DEFAULT) is True)
    ]
    if len(configs) == 1 or marked:
        return (marked or list(configs))[0]
    first = next(iter(configs))
    raise UserError(
        f"{wanted.url}: has several configurations ({', '.join(configs)}); name one, e.g. "
        f"{wanted.url.partition('?')[0]}?config={first}"
    )


def _of_card(wanted: WantedSplit, config: dict[str, Any], files: Sequence[str]) -> list[str]:
    folder = str(config.get("data_dir") or "").strip("./")
    below = [name for name in files if not folder or name.startswith(f"{folder}/")]
    given = config.get("data_files")
    if not given:
        return _split(wanted, by_usual_names(name for name in below if is_known(name)))
    items = given if isinstance(given, list) else [given]
    if isinstance(given, dict):  # split: pattern or patterns
        items = [{"split": split, "path": path} for split, path in given.items()]
    patterns: dict[str, list[str]] = {}
    for item in items:
        split, path = (item.get("split", "train"), item.get("path")) if isinstance(item, dict) else ("train", item)
        patterns.setdefault(str(split), []).extend(str(one) for one in (path if isinstance(path, list) else [path]))
    prefix = f"{folder}/" if folder else ""
    found = {
        split: [name for pattern in every for name in matching(below, prefix + pattern.removeprefix("./"))]
        for split, every in patterns.items()
    }
    return list(dict.fromkeys(_split(wanted, found)))


def _split(wanted: WantedSplit, splits: dict[str, list[str]]) -> list[str]:
    if splits.get(wanted.split):
        return splits[wanted.split]
    there = [split for split, files in splits.items() if files]
    if not there:
        raise UserError(f"{wanted.url}: has no file of rows")
    base = re.sub(r"&?\bsplit=[^&]*", "", wanted.url).rstrip("?&")
    joined = "&" if "?" in base else "?"
    raise UserError(
        f"{wanted.url}: has no split {wanted.split!r}; it has {', '.join(there)}: name one, e.g. {base}{joined}split={there[0]}"
    )
