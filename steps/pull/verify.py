"""Compares published models with their manifests, without asking their sources."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from steps.common.machine.devices import cores
from steps.common.runtime.progress import Progress
from steps.common.storage.files import sha256_of
from steps.common.weights import store

MB = 1_000_000


@dataclass(frozen=True)
class Mismatch:
    """A file that differs from its manifest."""

    file: Path
    why: str

    def in_words(self) -> str:
        """Return the path and the difference in one line."""
        return f"{self.file}: {self.why}"


def verify(folders: list[Path]) -> list[Mismatch]:
    """Return the files of published folders that differ from their manifests; uses all cores."""
    listed = [(folder / entry["name"], entry) for folder in folders for entry in store.read_manifest(folder)["files"]]
    progress = Progress(round(sum(entry["bytes"] for _, entry in listed) / MB), "MB")
    done, wrong = 0, []
    largest_first = sorted(listed, key=lambda one: -one[1]["bytes"])
    with ThreadPoolExecutor(cores()) as pool:
        for (path, entry), why in zip(largest_first, pool.map(lambda one: _why(*one), largest_first), strict=True):
            done += entry["bytes"]
            progress.update(round(done / MB))
            if why:
                wrong.append(Mismatch(path, why))
    return sorted(wrong, key=lambda one: str(one.file))


def _why(path: Path, entry: dict[str, int | str]) -> str:
    try:
        size = path.stat().st_size
        if size != entry["bytes"]:
            return f"has {size} bytes, but had {entry['bytes']} when it was published"
        return "" if sha256_of(path) == entry["sha256"] else "its content has changed since it was published"
    except OSError as error:
        return error.strerror or type(error).__name__
