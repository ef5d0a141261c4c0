"""`fineline render`: write the manifests of a cluster and the recipe's reference from the code, or check them."""

from pathlib import Path

from pipelines.shown.recipe_reference import REFERENCE, reference
from pipelines.shown.typed_command import command
from pipelines.workflows.rendered import differences, write
from steps.common.runtime.errors import UserError

MANIFESTS = Path("argo")


def render(folder: str, *, check: bool) -> int:
    """Write the rendered files; with `check`, only compare them.

    Args:
        folder: where to write the manifests. In a clone's own `argo/`, docs/recipe.md is rendered too.
        check: write nothing.

    Raises:
        UserError: with `check`, a file differs; or a file cannot be written.
    """
    place = Path(folder)
    # Whoever renders into another folder wants manifests, and no documentation beside them.
    references = {REFERENCE: reference()} if place == MANIFESTS else {}
    if check:
        found = differences(place) + [
            f"{path} differs from the code" for path, text in references.items() if not _is(path, text)
        ]
        if found:
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            raise UserError(f"{found[0]}{more}; run: {command('fineline render')}")
        return 0
    try:
        written = write(place)
        for path, text in references.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be written: {error.strerror}") from None
    for path in [*written, *references]:
        print(path)
    return 0


def _is(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text() == text
