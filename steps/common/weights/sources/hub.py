"""hf://ORG/NAME[@REVISION]: the Hugging Face Hub, or another server with its API at HF_ENDPOINT."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from steps.common.runtime.errors import InterruptedReadError, UserError
from steps.common.storage.retry import with_retries
from steps.common.storage.web_errors import check_status, in_one_line, interruption
from steps.common.web.trusted_hosts import check_token
from steps.common.web.web_client import web_client
from steps.common.weights.sources.listing import Listing, SourceFile, checked, is_wanted

SECONDS = 30.0  # without a byte

T = TypeVar("T")


class HubHeaders:
    """The headers for the hub, which include the user's token, and for no other host."""

    def __init__(self) -> None:
        from huggingface_hub import constants
        from huggingface_hub.utils._headers import build_hf_headers

        self._host, self._headers = urlsplit(constants.ENDPOINT).netloc, build_hf_headers()

    def for_url(self, url: str) -> dict[str, str]:
        """Return the headers for a URL; none if it is not the hub's.

        Raises:
            UserError: the token would be sent in the clear.
        """
        if urlsplit(url).netloc != self._host:
            return {}
        if any(name.lower() == "authorization" for name in self._headers):
            check_token(url, "HF_TOKEN")
        return self._headers


def hub_api() -> Any:
    """Return the hub's `HfApi`, which follows redirects only to where `trusted_hosts` allows them.

    Raises:
        UserError: the token would be sent in the clear.
    """
    from huggingface_hub import HfApi, set_client_factory
    from huggingface_hub.utils._http import hf_request_event_hook

    api = HfApi()
    HubHeaders().for_url(api.endpoint)
    set_client_factory(lambda: web_client(event_hooks={"request": [hf_request_event_hook]}, timeout=SECONDS))
    return api


def list_hub(uri: str) -> Listing:
    """List the safetensors and text files at the commit that the revision points at now.

    Raises:
        UserError: the repository or the revision does not exist, or access is denied.
        UnreachableError: the hub did not answer, even when asked again.
    """
    repository, _, revision = uri.removeprefix("hf://").partition("@")
    api = hub_api()
    info = _ask(api, repository, revision or "main")
    files = [
        SourceFile(
            name=s.rfilename,
            bytes=s.size or 0,
            sha256=s.lfs.sha256 if s.lfs else "",
            git_sha1="" if s.lfs else s.blob_id or "",
            url=f"{api.endpoint}/{repository}/resolve/{info.sha}/{quote(s.rfilename)}",
        )
        for s in info.siblings or []
        if is_wanted(s.rfilename)
    ]
    return Listing(
        uri=f"hf://{repository}@{info.sha}",
        files=checked(uri, files),
        licence=(info.card_data or {}).get("license") or "",
    )


def ask_hub(where: str, api: Any, question: Callable[[], T], refusals: Mapping[str, str]) -> T:
    """Return the hub's answer to a question, which is repeated if the hub does not answer it.

    Args:
        where: what is asked for, for messages.
        api: the hub's client.
        question: calls the client once or several times.
        refusals: what to tell the user, by the name of the error in `huggingface_hub.errors`; special errors come first.

    Raises:
        UserError: the hub has no such thing, or denies access; the name is not valid; the client is offline by its settings.
        UnreachableError: the hub did not answer, even when asked again.
    """
    import httpx2
    from huggingface_hub import errors

    def attempt() -> T:
        try:
            return question()
        except errors.HfHubHTTPError as error:
            check_status(error.response)
            status = f"{api.endpoint} refuses with status {error.response.status_code}"
            told = (words for name, words in refusals.items() if isinstance(error, getattr(errors, name)))
            raise UserError(f"{where}: {next(told, status)}") from None
        except errors.HFValidationError as error:
            raise UserError(f"{where}: not a repository name: {in_one_line(error)}") from None
        except errors.OfflineModeIsEnabled:
            raise UserError(f"{where}: HF_HUB_OFFLINE is set, so {api.endpoint} is not asked; unset it") from None
        except (httpx2.HTTPError, OSError) as error:
            raise interruption(where, error) from None
        except ValueError:
            raise InterruptedReadError(f"the answer of {api.endpoint} is not JSON") from None

    return with_retries(f"{where} at {api.endpoint}", attempt)


def repository_info(api: Any, repository: str, revision: str, kind: str = "model") -> Any:
    """Return what the hub says of a revision, with the sizes of a model's files.

    Args:
        api: the hub's client.
        repository: its name.
        revision: a branch, a tag or a commit.
        kind: of the repository: "model" or "dataset".

    Raises:
        HfHubHTTPError: the hub has no such thing, or denies access.
    """
    info = api.repo_info(repository, revision=revision, repo_type=kind, files_metadata=kind == "model")
    if info.gated:  # it is described to everyone
        api.auth_check(repository, repo_type=kind)
    return info


def _ask(api: Any, repository: str, revision: str) -> Any:
    page = f"{api.endpoint}/{repository}"
    refusals = {
        "GatedRepoError": f"is gated; accept its licence at {page} and set HF_TOKEN to your token",
        "RevisionNotFoundError": f"has no revision {revision!r}; give a branch, a tag or a commit after '@'",
        "RepositoryNotFoundError": f"not found at {api.endpoint}; if it is private, set HF_TOKEN",
    }
    return ask_hub(f"model hf://{repository}", api, lambda: repository_info(api, repository, revision), refusals)
