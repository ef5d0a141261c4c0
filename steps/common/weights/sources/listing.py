"""A model's files at one fixed revision, whatever their source."""

import fnmatch
import re

from pydantic import BaseModel, ConfigDict

from steps.common.runtime.errors import UserError
from steps.common.storage.files import digest_of

# No folders, nothing hidden, nothing that another file of ours beside it is called.
SAFE_NAME = re.compile(r"(?!manifest\.json$)[\w][\w.+=@ -]{0,200}(?<!\.part)(?<!\.journal)")


class SourceFile(BaseModel):
    """A file at its source. One of the two hashes is there, except where the source publishes none; then `tag` may be."""

    model_config = ConfigDict(frozen=True)

    name: str
    bytes: int  # 0: not known before it is fetched
    sha256: str = ""
    git_sha1: str = ""  # of "blob SIZE\0" and the content, as git names it
    url: str = ""
    tag: str = ""  # changes when the content does, as its source tells it

    @property
    def content(self) -> str:
        """What names its content: a hash, or else where it lies, and its tag."""
        return self.sha256 or self.git_sha1 or self.url + (f" {self.tag}" if self.tag else "")


class Listing(BaseModel):
    """A model's files, pinned."""

    model_config = ConfigDict(frozen=True)

    uri: str
    files: list[SourceFile]
    licence: str = ""

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.bytes for file in self.files)

    @property
    def digest(self) -> str:
        """The address of this content: sha256 over the names and hashes of the files."""
        return digest_of([[f.name, f.content] for f in sorted(self.files, key=lambda f: f.name)])


def checked(uri: str, files: list[SourceFile]) -> list[SourceFile]:
    """Return a listing's files, when they are a model's, and none can be written to elsewhere than into its folder.

    Raises:
        UserError: a name is not one of a file, or config.json or safetensors are missing.
    """
    for file in files:
        if not SAFE_NAME.fullmatch(file.name):
            raise UserError(f"model {uri}: lists a file {file.name!r}, which is no name of a file in a model's folder")
    names = {file.name for file in files}
    if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
        raise UserError(
            f"model {uri}: not a model's folder: it needs config.json and *.safetensors (pickled weights can run code)"
        )
    return files


# Beside the weights: tokenizer, configurations, licence. Code and pickles are fetched from nowhere.
WANTED = (
    "*.safetensors",
    "*.json",
    "*.jinja",
    "*.model",
    "*.tiktoken",
    "merges.txt",
    "vocab.txt",
    "LICENSE*",
    "README.md",
)


def is_wanted(name: str) -> bool:
    """Tell whether a file of a model's folder is of those that are fetched."""
    return "/" not in name and any(fnmatch.fnmatch(name, pattern) for pattern in WANTED)


TOKENIZER_FILES = ("tokenizer", "special_tokens_map", "vocab", "merges", "chat_template", "added_tokens", "config.json")


def is_tokenizer_file(name: str) -> bool:
    """Tell whether the tokenizer needs the file (config.json says which class it is)."""
    return name.startswith(TOKENIZER_FILES)
