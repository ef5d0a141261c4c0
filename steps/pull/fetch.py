"""Fetches one file: over HTTP from the byte where an earlier attempt ended, or from a folder; then checks its hash."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from steps.common.errors import UserError
from steps.common.progress import say
from steps.common.sources.listing import SourceFile
from steps.pull.verify import matches

ATTEMPTS = 6
STALL_SECONDS = 30.0
FIRST_WAIT_SECONDS = 1.0  # before going on; twice as long each time
Count = Callable[[int], None]


def fetch(file: SourceFile, folder: Path, count: Count) -> None:
    """Put the verified `file` into `folder`.

    Args:
        file: what to fetch.
        folder: where to; a part that an earlier attempt left there is gone on with.
        count: called with the number of bytes as they come; negative when bytes turned out to be wrong.

    Raises:
        UserError: the source cannot be reached, or twice gave something else than it listed.
    """
    target = folder / file.name
    if target.exists() and matches(file, target):
        count(target.stat().st_size)
        return
    part = folder / f"{file.name}.part"
    for last in (False, True):
        if file.url.startswith(("http://", "https://")):
            _over_http(file, part, count)
        else:
            _copy(Path(file.url), part, count)
        if matches(file, part):
            part.replace(target)
            return
        count(-part.stat().st_size)
        part.unlink()
        if last:
            break
        say(f"{file.name}: its hash is wrong; fetching it once more")
    raise UserError(
        f"{file.url}: what came has another hash than the source lists, twice; the source or the way is broken"
    )


def _copy(source: Path, part: Path, count: Count) -> None:
    try:
        shutil.copyfile(source, part)
    except FileNotFoundError:
        raise UserError(f"{source}: is gone; it was there when the run was planned") from None
    count(part.stat().st_size)


def _over_http(file: SourceFile, part: Path, count: Count) -> None:
    import httpx2
    from huggingface_hub.utils._headers import build_hf_headers

    counted = 0
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    with httpx2.Client(follow_redirects=True, timeout=STALL_SECONDS, headers=headers) as client:
        for attempt in range(1, ATTEMPTS + 1):
            have = part.stat().st_size if part.exists() else 0
            count(have - counted)
            counted = have
            if file.bytes and have >= file.bytes:
                return
            try:
                with client.stream("GET", file.url, headers={"Range": f"bytes={have}-"} if have else {}) as response:
                    if response.status_code in (401, 403, 404):
                        raise UserError(
                            f"{file.url}: the source answers {response.status_code}; check access and HF_TOKEN"
                        )
                    response.raise_for_status()
                    if response.status_code == 200 and have:
                        count(-have)
                        counted = 0
                    with part.open("ab" if response.status_code == 206 else "wb") as out:
                        for block in response.iter_raw():
                            out.write(block)
                            counted += len(block)
                            count(len(block))
                if not file.bytes or part.stat().st_size == file.bytes:
                    return
                reason = "the connection ended early"
            except httpx2.HTTPError as error:
                reason = str(error) or type(error).__name__
            if attempt < ATTEMPTS:
                wait = min(30.0, FIRST_WAIT_SECONDS * 2 ** (attempt - 1))
                say(f"{file.name}: {reason}; going on in {wait:g} s (attempt {attempt + 1} of {ATTEMPTS})")
                time.sleep(wait)
    raise UserError(
        f"{file.url}: could not be fetched in {ATTEMPTS} attempts: {reason}; what came is kept, run it again"
    )
