"""A model's files at one fixed revision, whatever their source."""

from pydantic import BaseModel, ConfigDict

from steps.common.files import digest_of


class SourceFile(BaseModel):
    """A file at its source. One of the two hashes is there, except where the source publishes none."""

    model_config = ConfigDict(frozen=True)

    name: str
    bytes: int  # 0: not known before it is fetched
    sha256: str = ""
    git_sha1: str = ""  # of "blob SIZE\0" and the content, as git names it
    url: str = ""


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
        return digest_of([[f.name, f.sha256 or f.git_sha1 or f.url] for f in sorted(self.files, key=lambda f: f.name)])


TOKENIZER_FILES = ("tokenizer", "special_tokens_map", "vocab", "merges", "chat_template", "added_tokens", "config.json")


def is_tokenizer_file(name: str) -> bool:
    """Tell whether the tokenizer needs the file (config.json says which class it is)."""
    return name.startswith(TOKENIZER_FILES)
