"""hf://datasets/ORG/NAME: rows of a dataset on the Hugging Face Hub, or on a compatible HF_ENDPOINT.

Either a file, a folder or a pattern (hf://datasets/ORG/NAME[@REVISION]/PATH), or what the data set itself calls a configuration
and a split (hf://datasets/ORG/NAME[@REVISION][?config=…&split=…]).
"""

import re
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, unquote

from steps.common.runtime.errors import UserError
from steps.common.storage.retry import with_retries
from steps.common.weights.sources.hub import HubHeaders, ask_hub, hub_api, repository_info
from steps.plan.data.file_names import fixed_folder, is_pattern, matching, refuse_several_splits, rows_among
from steps.plan.data.hub_splits import CARD, Repository, WantedSplit, files_of_split
from steps.plan.data.remote_file import RemoteFile
from steps.plan.data.web_file import find_with_headers, with_headers

CONVERTED = "refs/convert/parquet"  # where the hub keeps a data set as Parquet
# These revisions have slashes in them: https://huggingface.co/docs/huggingface_hub/guides/hf_file_system
FORM = re.compile(
    r"hf://datasets/(?P<name>[\w.-]+/[\w.-]+?)"
    r"(@(?P<revision>refs/convert/[\w-]+|refs/pr/\d+|[^/@?]+))?"
    r"(/(?P<path>[^?].*?|))?"
    r"(\?(?P<query>\w+=.*))?"
)
KEYS = {"config", "split"}

T = TypeVar("T")


def find_remote(url: str) -> list[RemoteFile]:
    """Resolve the revision to a commit, and find the files in it.

    Raises:
        UserError: the dataset, revision, configuration, split or file does not exist, or access is denied.
        UnreachableError: the hub did not answer, even when asked again.
    """
    match = FORM.fullmatch(url)
    if not match:
        raise UserError(
            f"{url}: write it as hf://datasets/ORG/NAME/PATH, hf://datasets/ORG/NAME@REVISION/PATH or "
            "hf://datasets/ORG/NAME?config=CONFIG&split=SPLIT"
        )
    query = dict(parse_qsl(match["query"] or ""))
    path = unquote(match["path"] or "").strip("/")
    if unknown := query.keys() - KEYS:
        raise UserError(f"{url}: unknown key {min(unknown)!r} after '?'; known are config and split")
    if query and path:
        raise UserError(f"{url}: name either a path or a config and a split, not both")
    found = _Dataset(url, match["name"], unquote(match["revision"] or "main"))
    if not path:
        return found.split(query.get("config", ""), query.get("split", "train"))
    return found.at(path)


class _Dataset:
    """A data set at the commit that a revision points at now."""

    def __init__(self, url: str, name: str, revision: str) -> None:
        self._url, self._name, self._revision = url, name, revision
        self._api = hub_api()
        self._headers = HubHeaders()
        self._commit = str(self._ask(lambda: repository_info(self._api, name, revision, "dataset")).sha)

    def at(self, path: str) -> list[RemoteFile]:
        """Find a file, the files of a folder, or those that match a pattern."""
        options = {"revision": self._commit, "repo_type": "dataset"}
        entries = self._ask(lambda: self._api.get_paths_info(self._name, [path], **options))
        if entries and hasattr(entries[0], "blob_id"):
            return [self._asked_for(path, entries[0])]
        folder = path if entries else fixed_folder(path) if is_pattern(path) else None
        if folder is None:
            raise UserError(f"{self._url}: the dataset has no file {path!r}")
        files = self._files_below(folder)
        names = list(files) if entries else matching(files, path)
        if not names:
            raise UserError(f"{self._url}: no file matches")
        prefix = f"{folder}/" if folder else ""
        chosen = rows_among(self._url, [name.removeprefix(prefix) for name in names])
        if entries:
            refuse_several_splits(self._url, chosen)
        return [self._listed(files[f"{prefix}{name}"]) for name in chosen]

    def split(self, config: str, split: str) -> list[RemoteFile]:
        """Find the files of a split."""
        files = self._files_below("")
        card = self._card(files[CARD]) if CARD in files and self._revision != CONVERTED else ""
        repository = Repository(self._name, list(files), card, self._revision == CONVERTED)
        names = files_of_split(WantedSplit(self._url, config, split), repository)
        return [self._listed(files[name]) for name in rows_among(self._url, names)]

    def _files_below(self, folder: str) -> dict[str, Any]:
        options = {"revision": self._commit, "repo_type": "dataset", "recursive": True}
        tree = self._ask(lambda: list(self._api.list_repo_tree(self._name, folder or None, **options)))
        return {entry.path: entry for entry in tree if hasattr(entry, "blob_id") and entry.size}

    def _card(self, entry: Any) -> str:
        address, shown = self._address(CARD), f"{self._url}: {CARD}"
        file = with_headers(address, shown, self._headers.for_url(address), "set HF_TOKEN", _tag(entry), entry.size)
        return with_retries(shown, lambda: b"".join(file.blocks())).decode(errors="replace")

    def _address(self, path: str) -> str:
        return f"{self._api.endpoint}/datasets/{self._name}/resolve/{self._commit}/{quote(path)}"

    def _asked_for(self, path: str, entry: Any) -> RemoteFile:
        address, pinned, tag = self._address(path), self._pinned(path), _tag(entry)
        return find_with_headers(address, pinned, self._headers.for_url(address), "set HF_TOKEN", tag)

    def _listed(self, entry: Any) -> RemoteFile:
        address, pinned = self._address(entry.path), self._pinned(entry.path)
        headers = self._headers.for_url(address)
        # Not by commit: a file that the next commit leaves as it is is not fetched again.
        own = f"hf://datasets/{self._name}@{self._revision}/{entry.path}"
        return with_headers(address, pinned, headers, "set HF_TOKEN", _tag(entry), entry.size, own)

    def _pinned(self, path: str) -> str:
        return f"hf://datasets/{self._name}@{self._commit}/{path}"

    def _ask(self, question: Callable[[], T]) -> T:
        endpoint = self._api.endpoint
        page = f"{endpoint}/datasets/{self._name}"
        refusals = {
            "GatedRepoError": f"is gated; accept its terms at {page} and set HF_TOKEN",
            "RevisionNotFoundError": f"has no revision {self._revision!r}",
            "RepositoryNotFoundError": f"no such dataset at {endpoint}; if it is private, set HF_TOKEN",
            "EntryNotFoundError": "the dataset has no such folder",
        }
        return ask_hub(self._url, self._api, question, refusals)


def _tag(entry: Any) -> str:
    return str(entry.lfs.sha256 if entry.lfs else entry.blob_id)
