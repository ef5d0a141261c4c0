"""A data set on a hub: its configurations and splits by its card, else by the usual names; folders, patterns, revisions."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import steps.common.storage.retry
from steps.common.runtime.errors import UserError
from steps.plan.data.local_copy import fetch, fetch_all
from tests.support.hub import point_at
from tests.support.web import COMMIT, Web, put_data_set


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr(steps.common.storage.retry, "FIRST_WAIT_SECONDS", 0.01)
    web = Web()
    point_at(monkeypatch, web.url)
    monkeypatch.setenv("HF_TOKEN", "hub-token")
    yield web
    web.close()


def row(text: str) -> bytes:
    return json.dumps({"text": text}).encode() + b"\n"


def card(configs: str) -> bytes:
    return f"---\nlicense: mit\n{configs}---\n# Chats\n".encode()


def found(url: str) -> list[str]:
    """Return the names of the fetched files within the repository."""
    copies = fetch_all(url)
    for copy in copies:
        assert Path(copy.path).read_bytes() == row(copy.pinned.partition(f"@{COMMIT}/")[2])
    return [copy.pinned.removeprefix(f"hf://datasets/org/chats@{COMMIT}/") for copy in copies]


def repository(*names: str, readme: bytes = b"# Chats\n") -> dict[str, bytes]:
    return {name: row(name) for name in names} | {"README.md": readme, ".gitattributes": b"*"}


TWO = """configs:
- config_name: en
  data_files:
  - split: train
    path: en/part-*.jsonl
  - split: test
    path: [en/held.jsonl, "en/more/**"]
- config_name: de
  data_dir: de
"""
FILES = ("en/part-1.jsonl", "en/part-2.jsonl", "en/held.jsonl", "en/more/a/b.jsonl", "de/train.jsonl", "de/test.jsonl")
SHARDS = ("data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl", "data/extra-00000-of-00001.jsonl")
SPLITS: list[tuple[tuple[str, ...], str, str, list[str]]] = [
    # names in the repository, card, what is asked for, what is found
    (("a.jsonl", "b/c.jsonl"), "", "", ["a.jsonl", "b/c.jsonl"]),
    (("train.jsonl", "dev.jsonl", "my-test-1.jsonl"), "", "", ["train.jsonl"]),
    (("train.jsonl", "dev.jsonl", "my-test-1.jsonl"), "", "?split=validation", ["dev.jsonl"]),
    (("train.jsonl", "dev.jsonl", "my-test-1.jsonl"), "", "?split=test", ["my-test-1.jsonl"]),
    (("training/a.jsonl", "eval/train.jsonl", "b.jsonl"), "", "", ["training/a.jsonl"]),
    (SHARDS, "", "", sorted(SHARDS[:2])),
    (SHARDS, "", "?split=extra", [SHARDS[2]]),
    (("fr/train.jsonl", "de/train.jsonl"), "", "?config=de", ["de/train.jsonl"]),
    (FILES, TWO, "?config=en", ["en/part-1.jsonl", "en/part-2.jsonl"]),
    (FILES, TWO, "?config=en&split=test", ["en/held.jsonl", "en/more/a/b.jsonl"]),
    (FILES, TWO, "?split=test&config=de", ["de/test.jsonl"]),
    (FILES, TWO + "  default: true\n", "", ["de/train.jsonl"]),
    (FILES, "configs:\n- config_name: default\n  data_files: de/*\n", "", ["de/test.jsonl", "de/train.jsonl"]),
    (
        FILES,
        "configs:\n- data_dir: en\n  data_files: [held.jsonl, part-1.jsonl]\n",
        "",
        ["en/held.jsonl", "en/part-1.jsonl"],
    ),
]


@pytest.mark.parametrize(("names", "configs", "query", "files"), SPLITS)
def test_a_split_has_the_files_that_its_data_set_says(
    hub: Web, names: tuple[str, ...], configs: str, query: str, files: list[str]
) -> None:
    put_data_set(hub, repository(*names, readme=card(configs)))
    assert found(f"hf://datasets/org/chats{query}") == files


@pytest.mark.parametrize(
    ("path", "files"),
    [
        ("en/held.jsonl", ["en/held.jsonl"]),
        ("en", ["en/held.jsonl", "en/more/a/b.jsonl", "en/part-1.jsonl", "en/part-2.jsonl"]),
        ("en/more/", ["en/more/a/b.jsonl"]),
        ("en/part-?.jsonl", ["en/part-1.jsonl", "en/part-2.jsonl"]),
        ("*/*[in].jsonl", ["de/train.jsonl"]),
        ("**/b.*", ["en/more/a/b.jsonl"]),
        ("en/part-[!2].jsonl", ["en/part-1.jsonl"]),
    ],
)
def test_a_folder_and_a_pattern_within_it(hub: Web, path: str, files: list[str]) -> None:
    put_data_set(hub, repository(*FILES, "en/notes.txt", "en/empty.jsonl") | {"en/empty.jsonl": b""})
    assert found(f"hf://datasets/org/chats/{path}") == files


@pytest.mark.parametrize(
    ("revision", "written", "path", "files"),
    [
        ("refs/convert/parquet", "refs/convert/parquet", "?config=en", ["en/train/0.jsonl"]),
        ("refs/convert/parquet", "refs%2Fconvert%2Fparquet", "?config=de&split=test", ["de/test/0.jsonl"]),
        ("refs/convert/parquet", "refs/convert/parquet", "/en/train/0.jsonl", ["en/train/0.jsonl"]),
        ("refs/pr/3", "refs/pr/3", "/de", ["de/test/0.jsonl"]),
        ("refs/pr/3", "refs%2Fpr%2F3", "/de/test/0.jsonl", ["de/test/0.jsonl"]),
        ("a/branch", "a%2Fbranch", "/de", ["de/test/0.jsonl"]),
    ],
)
def test_a_revision_may_have_slashes(hub: Web, revision: str, written: str, path: str, files: list[str]) -> None:
    put_data_set(hub, repository("en/train/0.jsonl", "en/partial-train/0.jsonl", "de/test/0.jsonl"), revision)
    assert found(f"hf://datasets/org/chats@{written}{path}") == files


def test_a_file_that_the_next_commit_leaves_as_it_is_is_not_fetched_again(hub: Web) -> None:
    put_data_set(hub, repository("a.jsonl", "b.jsonl"))
    first = fetch_all("hf://datasets/org/chats")
    read = [path for path, _ in hub.seen if "/resolve/" in path and path.endswith(".jsonl")]
    assert len(read) == 2
    put_data_set(hub, repository("a.jsonl", "b.jsonl") | {"b.jsonl": row("other")})
    second = fetch_all("hf://datasets/org/chats")
    assert [a.sha256 == b.sha256 for a, b in zip(first, second, strict=True)] == [True, False]
    again = [path for path, _ in hub.seen if "/resolve/" in path and path.endswith(".jsonl")]
    assert again[2:] == [f"/datasets/org/chats/resolve/{COMMIT}/b.jsonl"]


def test_a_card_is_asked_for_once_and_no_row_of_several_files_where_one_is_needed(hub: Web) -> None:
    put_data_set(hub, repository(*FILES, readme=card(TWO)))
    with pytest.raises(UserError, match="has 2 files; name one of them"):
        fetch("hf://datasets/org/chats?config=en")
    read = [path for path, _ in hub.seen if "/resolve/" in path]
    assert read == [f"/datasets/org/chats/resolve/{COMMIT}/README.md"]


def test_a_card_and_a_file_that_are_cut_off_are_read_again(hub: Web) -> None:
    put_data_set(hub, repository(*FILES, readme=card(TWO)))
    hub.cuts = {f"/datasets/org/chats/resolve/{COMMIT}/{name}": 3 for name in ("README.md", "de/train.jsonl")}
    assert found("hf://datasets/org/chats?config=de") == ["de/train.jsonl"]


TOLD: list[tuple[tuple[str, ...], str, str, str]] = [
    (FILES, TWO, "", "has several configurations (en, de); name one, e.g. hf://datasets/org/chats?config=en"),
    (FILES, TWO, "?config=fr", "has no configuration 'fr'; it has en, de"),
    (
        FILES,
        TWO,
        "?config=en&split=dev",
        "it has train, test: name one, e.g. hf://datasets/org/chats?config=en&split=train",
    ),
    (("test.jsonl",), "", "", "has no split 'train'; it has test: name one, e.g. hf://datasets/org/chats?split=test"),
    (("a.jsonl",), "", "?config=de", "has neither a configuration nor a folder 'de'"),
    (
        ("chats.py",),
        "",
        "",
        "made by a script, which is not run; the hub may have them as Parquet: hf://datasets/org/chats@refs/convert/parquet",
    ),
    (("a.txt",), "", "", "has no file of rows"),
    (("a.jsonl",), "configs: [\n", "", "begins with what is not YAML"),
    (("a.jsonl",), "", "?confg=de", "unknown key 'confg' after '?'; known are config and split"),
    (("a.jsonl",), "", "/a.jsonl?split=train", "name either a path or a config and a split, not both"),
    (("a.jsonl",), "", "/b*.jsonl", "no file matches"),
    (("a.jsonl",), "", "/[z-a].jsonl", "not a pattern of files"),
    (("chats.py", "dataset_infos.json"), "", "", "made by a script"),
    (("a/b.txt",), "", "/a", "has no file of rows, only b.txt"),
    (FILES, "", "/de", "has the files of several splits (train: train.jsonl; test: test.jsonl)"),
]


@pytest.mark.parametrize(("names", "configs", "asked", "told"), TOLD)
def test_what_a_data_set_has_not_is_one_line(
    hub: Web, names: tuple[str, ...], configs: str, asked: str, told: str
) -> None:
    put_data_set(hub, repository(*names, readme=card(configs)))
    with pytest.raises(UserError, match=re.escape(told)) as caught:
        fetch_all(f"hf://datasets/org/chats{asked}")
    assert "\n" not in str(caught.value)


def test_a_gated_data_set_says_where_its_terms_are(hub: Web) -> None:
    put_data_set(hub, repository("a.jsonl"))
    path = "/api/datasets/org/chats/revision/main"
    hub.content[path] = json.dumps(json.loads(hub.content[path]) | {"gated": "auto"}).encode()
    hub.faults["/api/datasets/org/chats/auth-check"] = [(403, {"X-Error-Code": "GatedRepo"})] * 9
    with pytest.raises(UserError, match="is gated; accept its terms at"):
        fetch_all("hf://datasets/org/chats")
