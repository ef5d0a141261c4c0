"""The `fineline` command. Its commands are the modules of `pipelines.commands`.

Exit codes: 0 success, 1 a bug or an unexpected failure, 2 a user mistake (one line says which), 3 a new version was
refused, 75 something outside did not answer (one line says what), 130 interrupted by Ctrl-C or SIGTERM. With FINELINE_DEBUG=1
the traceback behind such a line is printed too.
"""

import argparse
import importlib
import pkgutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, Protocol, cast

from pipelines import commands
from steps.common.runtime.debug import print_cause

USER_MISTAKE, STOPPED = 2, 130
OPTIONS = ("-h", "--help", "--version")  # of the command itself


class Command(Protocol):
    """What a module of `pipelines.commands` has."""

    HELP: str
    DESCRIPTION: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments to its parser."""

    def execute(self, parsed: argparse.Namespace) -> int:
        """Run the command and return its exit code."""


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments, without the usage that argparse prints before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(USER_MISTAKE, f"{self.prog}: {message}; see '{self.prog} --help'\n")


class _Version(argparse.Action):
    """Prints the version and exits; reading it takes longer than printing the help, so it is read on demand."""

    def __init__(self, **options: Any) -> None:
        super().__init__(nargs=0, default=argparse.SUPPRESS, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from steps.common.runtime.code_version import code_version

        print(f"fineline {code_version()}")
        parser.exit()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    known = _commands()
    if not words:
        parser().print_help()
        return 0
    if not words[0].startswith("-") and words[0] not in known:
        print(f"fineline: {_unknown(words[0], list(known))}", file=sys.stderr)
        return USER_MISTAKE
    if words[0].startswith("-") and words[0] not in OPTIONS:
        print(f"fineline: unknown option {words[0]!r}; see 'fineline --help'", file=sys.stderr)
        return USER_MISTAKE
    from steps.common.runtime.redaction import redacted_streams

    with redacted_streams(), _sigterm_as_ctrl_c():
        return _execute(words, known)


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM interrupt a command as Ctrl-C does, so that it leaves as little behind; by default no `finally` runs."""
    if threading.current_thread() is not threading.main_thread():  # which alone may set handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _execute(words: list[str], known: dict[str, Command]) -> int:
    parsed, unknown = parser().parse_known_args(words)
    if unknown:
        command = f"fineline {parsed.command}"
        print(f"{command}: unknown argument {unknown[0]!r}; see '{command} --help'", file=sys.stderr)
        return USER_MISTAKE
    from recipes.reader import RecipeError
    from steps.common.runtime.errors import INTERRUPTED, UnreachableError, UserError
    from steps.common.runtime.proxies import bypass_proxies
    from steps.common.runtime.secret import strip_secrets

    bypass_proxies()
    try:
        strip_secrets()
        return known[parsed.command].execute(parsed)
    except (UserError, RecipeError) as error:
        print_cause(error)
        print(f"fineline: {error}", file=sys.stderr)
        return USER_MISTAKE
    except UnreachableError as error:
        print_cause(error)
        print(f"fineline: {error}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return STOPPED


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    whole = _Parser(
        prog="fineline",
        description="Turn an open-weights language model and your data into your own model, served behind an "
        "OpenAI-compatible API.",
        epilog="Start with 'fineline plan', then 'fineline run'. 'fineline COMMAND --help' explains a command. Files are "
        "stored in ~/.fineline; set FINELINE_WEIGHTS and FINELINE_RUNS to store them elsewhere.",
    )
    whole.add_argument("--version", action=_Version, help="print the version and exit")
    subparsers = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in _commands().items():
        command.add_arguments(subparsers.add_parser(name, help=command.HELP, description=command.DESCRIPTION))
    return whole


def _commands() -> dict[str, Command]:
    names = sorted(module.name for module in pkgutil.iter_modules(commands.__path__))
    return {name: cast(Command, importlib.import_module(f"{commands.__name__}.{name}")) for name in names}


def _unknown(word: str, known: list[str]) -> str:
    import difflib

    nearest = difflib.get_close_matches(word, known, 1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"the commands are {', '.join(known)}"
    return f"unknown command {word!r}; {hint}"


if __name__ == "__main__":
    sys.exit(main())
