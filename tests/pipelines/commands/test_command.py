"""The command line as a whole: help, version, mistakes in its words, and what is behind a one-line error."""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pipelines.command import main, parser
from pipelines.commands import schema
from tests.support.commands import fineline

ON_THIS_MACHINE = ["api", "backup", "plan", "prune", "presets", "pull", "run", "runs", "schema", "serving", "weights"]
ON_A_CLUSTER = ["doctor", "logs", "render", "rollback", "schedule", "status", "stop", "submit"]


def parsers(of: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    yield name, of
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, below in action.choices.items():
                yield from parsers(below, f"{name} {word}")


def test_each_command_that_users_know_is_found() -> None:
    found = [name.split()[1] for name, _ in parsers(parser(), "fineline") if name.count(" ") == 1]
    assert found == sorted(ON_THIS_MACHINE + ON_A_CLUSTER)


@pytest.mark.parametrize(("name", "found"), list(parsers(parser(), "fineline")))
def test_each_command_and_each_argument_has_a_sentence_of_help(name: str, found: argparse.ArgumentParser) -> None:
    assert found.description, name
    for action in found._actions:
        if isinstance(action, argparse._SubParsersAction):
            assert {choice.dest for choice in action._choices_actions if choice.help} == set(action.choices)
        else:
            assert action.help, (name, action.dest)


def test_without_a_command_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    alone = capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert alone == capsys.readouterr().out


def test_the_version_is_printed() -> None:
    done = fineline("--version")
    assert (done.returncode, done.stdout.split()[0]) == (0, "fineline")
    assert done.stdout.split()[1].startswith("0.1.0")


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("pln", "did you mean plan?"),
        ("statsu", "did you mean status?"),
        ("xyzzy", "the commands are api, backup, doctor, logs, "),
    ],
)
def test_a_misspelt_command_gets_the_nearest_one(word: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"fineline: unknown command {word!r}; {hint}")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["plan", "--jsn"], "fineline plan: unknown argument '--jsn'; see 'fineline plan --help'"),
        (["plan", "a", "b"], "fineline plan: unknown argument 'b'; see 'fineline plan --help'"),
        (["plan", "-o"], "fineline plan: argument -o/--override: expected one argument; see 'fineline plan --help'"),
        (["serving", "stp"], "fineline serving: argument list|stop|clean: invalid choice: 'stp'"),
    ],
)
def test_a_mistake_in_the_arguments_is_one_line(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(words)
    except SystemExit as ended:
        code = int(ended.code or 0)
    (said,) = capsys.readouterr().err.splitlines()
    assert (code, said[: len(line)]) == (2, line)


def test_help_loads_no_library() -> None:
    """Which keeps it within a tenth of a second."""
    shown = """
import sys
from pipelines.command import main
before = set(sys.modules)
try:
    main(["--help"])
except SystemExit:
    pass
files = {name: getattr(sys.modules[name], "__file__", None) or "" for name in set(sys.modules) - before}
print([name for name, file in files.items() if "site-packages" in file], file=sys.stderr)
"""
    ended = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
    assert "COMMAND" in ended.stdout
    assert ended.stderr.strip() == "[]"


def test_debug_shows_what_is_behind_an_error_that_hides_its_cause(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mistake = ["plan", "-o", "tune.epoch=2"]
    assert main(mistake) == 2
    (line,) = capsys.readouterr().err.splitlines()
    monkeypatch.setenv("FINELINE_DEBUG", "1")
    assert main(mistake) == 2
    shown = capsys.readouterr().err
    assert shown.splitlines()[-1] == line
    assert "pydantic_core._pydantic_core.ValidationError: 1 validation error for Recipe" in shown
    assert "During handling of the above exception" in shown
    monkeypatch.setenv("FINELINE_DEBUG", "0")
    assert main(mistake) == 2
    assert capsys.readouterr().err.splitlines() == [line]


def test_sigterm_ends_a_command_as_ctrl_c_does(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []

    def killed(_: argparse.Namespace) -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            ended.append(True)
        return 0

    monkeypatch.setattr(schema, "execute", killed)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # without a handler of the command, nothing happens
    try:
        assert main(["schema"]) == 130
        assert ended == [True]
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
