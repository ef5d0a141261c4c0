"""`fineline pull`: fetch a base model onto this machine."""

import argparse

HELP = "download a base model to this machine and verify it"
DESCRIPTION = (
    "Download a base model to this machine, verify every file against its published hash, and print the model's folder. "
    "An interrupted download continues where it stopped."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "model",
        help="name of a model preset ('fineline presets' lists them), or a URI such as hf://ORG/NAME@REVISION",
    )
    parser.add_argument(
        "--verify", action="store_true", help="hash the files that already exist and download damaged ones again"
    )


def execute(parsed: argparse.Namespace) -> int:
    """Fetch the model and print its folder.

    Raises:
        UserError: there is no such model, or it cannot be fetched.
    """
    from steps.plan.model import resolve_model
    from steps.pull.step import PullInput, pull

    print(pull(PullInput(model=resolve_model(parsed.model), files="all", verify=parsed.verify)).folder)
    return 0
