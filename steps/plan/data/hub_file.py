"""hf://datasets/ORG/NAME[@REVISION]/PATH: a file of a dataset on the Hugging Face Hub, or on a compatible HF_ENDPOINT."""

import re
from typing import Any
from urllib.parse import quote

from steps.common.runtime.errors import UserError
from steps.common.weights.sources.hub import HubHeaders, ask_hub, hub_api
from steps.plan.data.remote_file import RemoteFile
from steps.plan.data.web_file import find_with_headers

FORM = re.compile(r"hf://datasets/(?P<name>[\w.-]+/[\w.-]+?)(@(?P<revision>[^/]+))?/(?P<path>.+)")


def find_remote(url: str) -> list[RemoteFile]:
    """Resolve the revision to a commit, and find the file in it.

    Raises:
        UserError: the dataset, revision or file does not exist, or access is denied.
        UnreachableError: the hub did not answer, even when asked again.
    """
    match = FORM.fullmatch(url)
    if not match:
        raise UserError(f"{url}: write it as hf://datasets/ORG/NAME/PATH or hf://datasets/ORG/NAME@REVISION/PATH")
    name, path = match["name"], match["path"]
    api = hub_api()
    commit, file = _ask(api, url, name, match["revision"] or "main", path)
    address = f"{api.endpoint}/datasets/{name}/resolve/{commit}/{quote(path)}"
    pinned = f"hf://datasets/{name}@{commit}/{path}"
    tag = file.lfs.sha256 if file.lfs else file.blob_id
    return [find_with_headers(address, pinned, HubHeaders().for_url(address), "set HF_TOKEN", tag)]


def _ask(api: Any, url: str, name: str, revision: str, path: str) -> tuple[str, Any]:
    from huggingface_hub import errors

    def question() -> tuple[str, list[Any]]:
        commit = api.repo_info(name, revision=revision, repo_type="dataset").sha
        return commit, api.get_paths_info(name, [path], revision=commit, repo_type="dataset")

    try:
        commit, found = ask_hub(url, api, question)
    except errors.GatedRepoError:
        page = f"{api.endpoint}/datasets/{name}"
        raise UserError(f"{url}: is gated; accept its terms at {page} and set HF_TOKEN") from None
    except errors.RevisionNotFoundError:
        raise UserError(f"{url}: has no revision {revision!r}") from None
    except errors.RepositoryNotFoundError:
        raise UserError(f"{url}: no such dataset at {api.endpoint}; if it is private, set HF_TOKEN") from None
    except errors.HfHubHTTPError as error:
        raise UserError(f"{url}: {api.endpoint} refuses with status {error.response.status_code}") from None
    if not found or not hasattr(found[0], "blob_id"):
        raise UserError(f"{url}: the dataset has no file {path!r}")
    return commit, found[0]
