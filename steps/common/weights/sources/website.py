"""https://HOST/FOLDER/: a model's folder on a web server, with a SHA256SUMS of its files or with the usual names."""

import json
from typing import Any
from urllib.parse import quote

from steps.common.runtime.errors import UserError
from steps.common.web.web_client import web_client
from steps.common.weights.sources.listing import Listing, SourceFile, checked, is_wanted
from steps.common.weights.sources.sums import SUMS, read_sums

SECONDS = 30.0
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
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
)


def list_website(uri: str) -> Listing:
    """List the folder's files with their sizes and, without a SHA256SUMS, their ETags to detect changes.

    Raises:
        UserError: it is not a model's folder, or the server cannot be reached.
    """
    import httpx2

    base = uri.rstrip("/") + "/"
    headers = {"Accept-Encoding": "identity"}
    with web_client(timeout=SECONDS, headers=headers) as client:
        try:
            sums = client.get(base + SUMS)
            if sums.is_success:
                hashes = read_sums(uri, sums.content)
                names = [name for name in hashes if is_wanted(name)]
            else:
                hashes, names = {}, [*USUAL, *_weights(client, base)]
            found = [_head(client, base, name, hashes.get(name, "")) for name in dict.fromkeys(names)]
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise UserError(f"model {uri}: cannot be reached: {str(error) or type(error).__name__}") from None
    files = [file for file in found if file]
    if missing := set(hashes) & set(names) - {file.name for file in files}:
        raise UserError(f"model {uri}: {SUMS} names {sorted(missing)[0]!r}, which does not exist")
    return Listing(uri=uri, files=checked(uri, files))


def _weights(client: Any, base: str) -> list[str]:
    index = client.get(base + INDEX)
    if not index.is_success:
        return [SINGLE]
    try:
        named = set(json.loads(index.content)["weight_map"].values())
        return [INDEX, *sorted(name for name in named if name.endswith(".safetensors"))]
    except (ValueError, KeyError, AttributeError, TypeError):
        raise UserError(f"model {base}: {INDEX} is not a weights index") from None


def _head(client: Any, base: str, name: str, sha256: str) -> SourceFile | None:
    url = base + quote(name)
    response = client.head(url)
    if response.status_code in (404, 410):
        return None
    if not response.is_success:
        raise UserError(f"model {base}: {name}: the server answers {response.status_code}")
    size, tag = response.headers.get("content-length", "0"), response.headers.get("etag", "")
    strong = tag if tag and not tag.startswith("W/") else ""
    return SourceFile(name=name, bytes=int(size) if size.isdigit() else 0, sha256=sha256, url=url, tag=strong)
