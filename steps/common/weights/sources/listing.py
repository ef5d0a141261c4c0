"""The list of a model's files at one fixed revision, the same for all sources."""

import fnmatch
import re

from pydantic import BaseModel, ConfigDict

from steps.common.runtime.errors import UserError
from steps.common.storage.files import digest_of

# No folders, no hidden files, none of the names that we use beside them.
SAFE_NAME = re.compile(r"(?!manifest\.json$)[\w][\w.+=@ -]{0,200}(?<!\.part)(?<!\.journal)")


class SourceFile(BaseModel):
    """A file at its source: with one of the two hashes or, if the source publishes none, with a tag if it has one."""

    model_config = ConfigDict(frozen=True)

    name: str
    bytes: int  # 0: unknown until it is fetched
    sha256: str = ""
    git_sha1: str = ""  # of "blob SIZE\0" and the content, git's name of it
    url: str = ""
    tag: str = ""  # changes with the content, according to the source

    @property
    def content(self) -> str:
        """Identity of its content: a hash, or else its URL and its tag."""
        return self.sha256 or self.git_sha1 or self.url + (f" {self.tag}" if self.tag else "")


class Listing(BaseModel):
    """The pinned files of a model."""

    model_config = ConfigDict(frozen=True)

    uri: str
    files: list[SourceFile]
    licence: str = ""

    @property
    def bytes(self) -> int:
        """Size of all files together."""
        return sum(file.bytes for file in self.files)

    @property
    def digest(self) -> str:
        """Address of the content: sha256 over the names and hashes of the files."""
        return digest_of([[f.name, f.content] for f in sorted(self.files, key=lambda f: f.name)])


def checked(uri: str, files: list[SourceFile]) -> list[SourceFile]:
    """Return the files of a listing, after checking that they are a model's and can only be written to its own folder.

    Raises:
        UserError: a name is not a plain file name, or config.json or the safetensors are missing.
    """
    for file in files:
        if not SAFE_NAME.fullmatch(file.name):
            raise UserError(
                f"model {uri}: lists a file {file.name!r}, which is not a valid file name in a model's folder"
            )
    names = {file.name for file in files}
    if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
        raise UserError(
            f"model {uri}: not a model's folder: it needs config.json and *.safetensors (pickled weights can run code)"
        )
    return files


# Besides the weights: tokenizer, configuration, licence. Code and pickles are never fetched.
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
    """Return whether a file of a model's folder is one to fetch."""
    return "/" not in name and any(fnmatch.fnmatch(name, pattern) for pattern in WANTED)


TOKENIZER_FILES = (
    "tokenizer",
    "special_tokens_map",
    "vocab",
    "merges",
    "chat_template",
    "added_tokens",
    "config.json",
    "generation_config.json",
)


def is_tokenizer_file(name: str) -> bool:
    """Return whether the file is of the tokenizer; config.json names its class, generation_config.json its last tokens."""
    return name.startswith(TOKENIZER_FILES)
