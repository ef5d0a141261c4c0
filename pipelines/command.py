"""The `fineline` command: run, plan, pull, weights, presets, schema, serving, runs, rollback; submit, status, logs, stop,
schedule, doctor, render.

Exit codes: 0 done, 1 a fault of ours, 2 a mistake of the user's (one line says which), 3 a new version was refused,
130 stopped by Ctrl-C.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

FAULT, USER_MISTAKE = 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parsed = _parser().parse_args(arguments)
    # Each command is imported when it is asked for: Hera and pydantic take half a second that --help need not.
    from pipelines.commands import MISTAKES, run_command

    try:
        return run_command(parsed)
    except MISTAKES as error:
        print(f"fineline: {error}", file=sys.stderr)
        return USER_MISTAKE
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fineline",
        description="Turns an open-weights language model and your data into your own model, served behind an OpenAI API.",
        epilog="Files lie in ~/.fineline; FINELINE_WEIGHTS and FINELINE_RUNS name other folders.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    as_json = argparse.ArgumentParser(add_help=False)
    as_json.add_argument("--json", action="store_true", help="print JSON on standard output")
    recipe = argparse.ArgumentParser(add_help=False)
    recipe.add_argument(
        "recipe", nargs="?", default="pet-store", help="recipe file, or a recipe that ships (default: pet-store)"
    )
    recipe.add_argument(
        "-o", "--override", action="append", default=[], metavar="KEY=VALUE", help="e.g. -o tune.epochs=2"
    )

    run = commands.add_parser("run", parents=[recipe, as_json], help="run the whole workflow on this machine")
    run.add_argument("--resume", metavar="RUN", help="finish an interrupted or failed run, skipping what is done")
    plan = commands.add_parser(
        "plan", parents=[recipe, as_json], help="say what a run would do, take and cost, and do nothing"
    )
    plan.add_argument(
        "--cloud", choices=["aws", "azure", "gcp"], help="on the GPUs of that cloud (default: on this machine)"
    )
    pull = commands.add_parser("pull", help="fetch a base model onto this machine, verified")
    pull.add_argument("model", help="a preset, or a URI such as hf://ORG/NAME@REVISION")
    pull.add_argument("--verify", action="store_true", help="hash what is there already, and fetch what is wrong again")
    weights = commands.add_parser("weights", parents=[as_json], help="list the base models on this machine")
    weights.add_argument("--verify", action="store_true", help="hash them all again; no source is asked")
    weights.add_argument(
        "--keep", metavar="SIZE", default="", help="delete what was not used for longest, until 300GB, say, are left"
    )
    presets = commands.add_parser(
        "presets", parents=[as_json], help="list the models and instance types that are known"
    )
    presets.add_argument("what", nargs="?", choices=["models", "gpus"], default="models", help="(default: models)")
    commands.add_parser("schema", help="print the recipe's JSON Schema")
    _add_cluster_commands(commands, recipe, as_json)
    render = commands.add_parser("render", help="write the manifests of a cluster and docs/recipe.md from the code")
    render.add_argument(
        "folder", nargs="?", default="argo", help="write the manifests there, and no docs (default: argo)"
    )
    render.add_argument("--check", action="store_true", help="write nothing; fail when a file differs from the code")
    serving = commands.add_parser("serving", help="list or stop what is served on this machine")
    actions = serving.add_subparsers(dest="action", metavar="list|stop|clean")
    actions.add_parser("list", parents=[as_json], help="list the models served here (the default)")
    stop = actions.add_parser("stop", help="stop a model's server")
    stop.add_argument("name", nargs="?", default="", help="the model (default: the only one)")
    clean = actions.add_parser("clean", help="delete what is kept of versions that a rollout has refused")
    clean.add_argument("name", nargs="?", default="", help="of that model (default: of all)")
    commands.add_parser("runs", parents=[as_json], help="list the runs of this machine, the newest first")
    return parser


def _add_cluster_commands(commands: Any, recipe: argparse.ArgumentParser, as_json: argparse.ArgumentParser) -> None:
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("-n", "--namespace", default="", help="where Fineline is installed (default: the context's)")
    where.add_argument("--context", default="", help="of the kubeconfig (default: the current one)")
    watch = argparse.ArgumentParser(add_help=False)
    watch.add_argument("-w", "--watch", action="store_true", help="follow the run to its end")
    submit = commands.add_parser(
        "submit", parents=[recipe, where, watch, as_json], help="run the whole workflow on a cluster"
    )
    submit.add_argument("--approval", action="store_true", help="wait for a person's word before the rollout")
    status = commands.add_parser(
        "status", parents=[where, watch, as_json], help="show a cluster's runs, or one of them"
    )
    status.add_argument("run", nargs="?", default="", help="the run (default: list all)")
    logs = commands.add_parser("logs", parents=[where], help="print the logs of a run on a cluster")
    logs.add_argument("run")
    logs.add_argument("step", nargs="?", default="", help="e.g. tune (default: all)")
    stop = commands.add_parser("stop", parents=[where], help="stop a run on a cluster; what it took is given back")
    stop.add_argument("run")
    rollback = commands.add_parser(
        "rollback", parents=[where, as_json], help="serve an earlier version again, here or on a cluster"
    )
    rollback.add_argument("name", help="the model")
    rollback.add_argument("--to", metavar="VERSION", default="", help="(default: the champion before the one that is)")
    doctor = commands.add_parser(
        "doctor", parents=[where, as_json], help="say what a namespace of a cluster lacks, and the remedy"
    )
    doctor.add_argument(
        "--secrets", default="fineline", metavar="PREFIX", help="as the recipe has it (default: fineline)"
    )
    schedule = commands.add_parser(
        "schedule", parents=[recipe, where], help="train again on a cluster, regularly, where something is new"
    )
    schedule.add_argument("--at", default="0 3 * * *", metavar="CRON", help="when to look (default: '0 3 * * *')")
    schedule.add_argument("--time-zone", default="Etc/UTC", help="in which that is meant (default: Etc/UTC)")
    schedule.add_argument("--remove", metavar="NAME", default="", help="look no more for the model of that name")


if __name__ == "__main__":
    sys.exit(main())
