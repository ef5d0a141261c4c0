"""https://HOST/FOLDER/: a model's folder on a web server, with a SHA256SUMS of its files or with the usual names."""

from typing import Any
from urllib.parse import quote

from steps.common.runtime.errors import UserError
from steps.common.storage.retry import with_retries
from steps.common.storage.web_errors import check_status, web_errors
from steps.common.web.web_client import web_client
from steps.common.weights.sources.listing import Listing, SourceFile, checked, is_wanted
from steps.common.weights.sources.sums import SUMS, read_sums
from steps.common.weights.sources.weights_index import INDEX, SINGLE, read_index

SECONDS = 30.0
ABSENT = (403, 404, 410)  # object stores that serve websites answer 403 for what does not exist
USUAL = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "LICENSE",
    "adapter_config.json",  # for what is said about an adapter
)


def list_website(uri: str) -> Listing:
    """List the folder's files with their sizes and, without a SHA256SUMS, their ETags to detect changes.

    Raises:
        UserError: a file that its lists name does not exist, or no DNS server knows the host.
        UnreachableError: the server did not answer, even when asked again.
    """

    base = uri.rstrip("/") + "/"
    headers = {"Accept-Encoding": "identity"}
    with web_client(timeout=SECONDS, headers=headers) as client:
        sums = _ask(client, "GET", base, SUMS)
        if sums:
            hashes = read_sums(uri, sums.content)
            names = [name for name in hashes if is_wanted(name)]
        else:
            hashes, names = {}, [*USUAL, *_weights(client, base)]
        found = [_head(client, base, name, hashes.get(name, "")) for name in dict.fromkeys(names)]
    files = [file for file in found if file]
    if missing := set(hashes) & set(names) - {file.name for file in files}:
        raise UserError(f"model {uri}: {SUMS} names {sorted(missing)[0]!r}, which does not exist")
    return Listing(uri=uri, files=checked(uri, files))


def _ask(client: Any, method: str, base: str, name: str) -> Any | None:
    """Return the server's answer about a file, or None if it has no such file."""
    url = base + quote(name)

    def attempt() -> Any:
        with web_errors(f"model {base}"):
            response = client.request(method, url)
        check_status(response)
        return response

    response = with_retries(url, attempt)
    if response.status_code in ABSENT:
        return None
    if not response.is_success:
        raise UserError(f"model {base}: {name}: the server answers {response.status_code}")
    return response


def _weights(client: Any, base: str) -> list[str]:
    index = _ask(client, "GET", base, INDEX)
    if not index:
        return [SINGLE]
    shards = set(read_index(base, index.text).values())
    return [INDEX, *sorted(name for name in shards if is_wanted(name))]


def _head(client: Any, base: str, name: str, sha256: str) -> SourceFile | None:
    response = _ask(client, "HEAD", base, name)
    if not response:
        return None
    size, tag = response.headers.get("content-length", "0"), response.headers.get("etag", "")
    strong = tag if tag and not tag.startswith("W/") else ""
    return SourceFile(
        name=name, bytes=int(size) if size.isdigit() else 0, sha256=sha256, url=base + quote(name), tag=strong
    )
