"""`fineline runs`: list the runs on this machine."""

import argparse

from pipelines.shown.arguments import add_json

HELP = "list the runs on this machine"
DESCRIPTION = "List the runs on this machine, the newest first. 'fineline status' lists the runs on a cluster."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_json(parser)


def execute(parsed: argparse.Namespace) -> int:
    """List the runs."""
    import json
    import time

    from pipelines.machine import run_record
    from pipelines.shown.shell_command import shell_command
    from pipelines.shown.table import print_table

    found = run_record.runs()
    if parsed.json:
        print(json.dumps([{**run.model_dump(mode="json"), "phase": run.state().value} for run in found], indent=2))
        return 0
    if not found:
        print(f"no runs yet; start one with: {shell_command('fineline run')}")
        return 0
    rows = [
        (
            run.name,
            time.strftime("%Y-%m-%d %H:%M", time.localtime(run.started)),
            run.state().value,
            run.outputs("register").get("version", ""),
            run.message,
        )
        for run in found
    ]
    print_table("runs", ["run", "started", "phase", "version", "message"], rows)
    return 0
