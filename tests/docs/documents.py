"""The documentation as the tests read it: its files, their code blocks, and the commands in them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCUMENTS += sorted((ROOT / "examples").rglob("*.md"))
EXAMPLES = sorted((ROOT / "examples").glob("*/recipe.yaml"))
COMMENTED = [*EXAMPLES, *sorted((ROOT / "argo").rglob("kustomization.yaml")), ROOT / "images" / "Dockerfile"]
COMMENTED += sorted((ROOT / "benchmarks").rglob("*.py"))
PROGRAMS = ("uv", "kubectl", "docker", "kind", "argo", "llama-cli")


@dataclass(frozen=True)
class Block:
    """A code block."""

    file: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A command line, as one would type it."""

    file: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}: {self.text}"

    @property
    def words(self) -> list[str]:
        """The words of the line without its comment."""
        return shlex.split(self.text, comments=True)


def name_of(case: Block | Command | Path) -> str:
    """Return a test case's name."""
    return str(case.relative_to(ROOT)) if isinstance(case, Path) else str(case)


def blocks(language: str) -> list[Block]:
    """Return the code blocks of a language in all documents."""
    return [block for file in DOCUMENTS for block in _blocks(file) if block.language == language]


def _blocks(file: Path) -> Iterator[Block]:
    text = file.read_text()
    for match in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        yield Block(file, text.count("\n", 0, match.start(2)) + 1, match[1], match[2])


def commands() -> list[Command]:
    """Return every command line: in the documents' shell blocks, and in the comments of files that say how to use them."""
    found = [
        Command(block.file, block.line + number, part.strip())
        for block in blocks("sh")
        for number, line in enumerate(block.text.splitlines())
        for part in line.split(" && ")
        if part.strip()
    ]
    return found + [command for file in COMMENTED for command in _in_comments(file)]


def _in_comments(file: Path) -> Iterator[Command]:
    """Yield the indented lines of comments that begin with a program; a backslash at the end joins two of them."""
    joined, first = "", 0
    for number, line in enumerate(file.read_text().splitlines(), 1):
        match = re.fullmatch(r"#?     +(\S.*)", line)
        if joined and match:
            joined += " " + match[1]
        elif match and match[1].split()[0] in PROGRAMS:
            joined, first = match[1], number
        else:
            continue
        if joined.endswith("\\"):
            joined = joined[:-1].strip()
            continue
        yield Command(file, first, joined)
        joined = ""


def fineline_commands() -> list[Command]:
    """Return the lines that run the `fineline` command."""
    return [command for command in commands() if command.words[:3] == ["uv", "run", "fineline"]]


def prose(file: Path) -> str:
    """Return a document without its code blocks."""
    return re.sub(r"^```.*?^```$", "", file.read_text(), flags=re.DOTALL | re.MULTILINE)


def code_spans(file: Path) -> list[str]:
    """Return what stands between backticks in a document's prose."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(file))]
