"""docs/moving-from-openai.md names every call, field, status, and code of OpenAI's API as Fineline has it, and no other."""

import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from openai.types import FileObject as TheirFile
from openai.types import Model as TheirModel
from openai.types.file_create_params import FileCreateParams
from openai.types.fine_tuning import FineTuningJob as TheirJob
from openai.types.fine_tuning import FineTuningJobEvent as TheirEvent
from openai.types.fine_tuning.job_create_params import JobCreateParams, Method
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint as TheirCheckpoint
from pydantic import BaseModel

from api.error_answers import ErrorAnswer
from api.jobs.create_body import CreateBody
from api.jobs.job_checkpoints import FineTuningJobCheckpoint
from api.jobs.job_events import FineTuningJobEvent
from api.jobs.job_object import CODES, FAULT, REFUSED, FineTuningJob
from api.jobs.job_place import Status
from api.jobs.recipe_keys import ALLOWED
from api.jobs.step_metrics import COLUMNS
from api.paging import Page
from api.server.application import PREFIX
from api.server.file_routes import FORM, FileDeleted, FileObject
from api.server.model_routes import ModelDeleted, ModelObject
from tests.docs.documents import ROOT
from tests.support.api_server import machine_app

PAGE = (ROOT / "docs" / "moving-from-openai.md").read_text()
SOURCE = "\n".join(file.read_text() for file in (ROOT / "api").rglob("*.py"))
NOT_TAKEN, KINDS = {"refused", "absent"}, {"kept", "mapped", "added", "refused", "absent"}


def section(heading: str) -> str:
    """Return the text under a heading, up to the next one of any level."""
    found = PAGE.partition(f"\n{heading}\n")[2]
    assert found, heading
    return re.split(r"\n#+ ", found)[0]


def tables(heading: str) -> list[list[list[str]]]:
    """Return the tables under a heading: their rows, and the cells of those."""
    found = re.findall(r"(?:^\|.*\n)+", section(heading), re.MULTILINE)
    return [[line.strip("| ").split(" | ") for line in table.splitlines()[2:]] for table in found]


def spans(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def told(heading: str, number: int = 0) -> dict[str, str]:
    """Return each field in the first column of a table, with its kind."""
    return {name: cells[1] for cells in tables(heading)[number] for name in spans(cells[0])}


def fields_of(model: type[BaseModel], parent: str = "") -> Iterator[str]:
    """Yield the fields of a model and of the models in it, as `error.code`."""
    for name, field in model.model_fields.items():
        yield f"{parent}{name}"
        for inner in _models_in(field.annotation):
            yield from fields_of(inner, f"{parent}{name}.")


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def check(found: dict[str, str], ours: set[str], theirs: set[str]) -> None:
    assert set(found.values()) <= KINDS
    assert {name for name, kind in found.items() if kind not in NOT_TAKEN} == ours
    assert theirs <= found.keys()
    assert {name for name, kind in found.items() if kind == "added"} <= ours - theirs
    assert not {name for name, kind in found.items() if kind in NOT_TAKEN} & ours


def test_each_field_of_the_request_for_a_job_is_documented() -> None:
    found = told("## Creating a job")
    nested = {name.removeprefix("method.") for name in Method.__annotations__}
    assert {name for name, kind in found.items() if kind == "refused"} == {"integrations", "method.reinforcement"}
    found = {name.removeprefix("method."): kind for name, kind in found.items()}
    ours = {name.rpartition(".")[2] for name in fields_of(CreateBody)}
    found["integrations"] = "kept"  # it may be null
    check(found, ours, JobCreateParams.__annotations__.keys() | nested)
    assert found["recipe"] == "added"


def test_each_part_of_a_recipe_that_a_job_takes_is_documented() -> None:
    listed = {
        span.removesuffix(".*").partition(".")[0] for span in spans(section("## Creating a job").partition("|\n\n")[2])
    }
    assert {part.partition(".")[0] for part in ALLOWED} <= listed
    for part in ("data", "serve", "compute"):
        assert [key for key in ALLOWED[part].split() if f"`{part}.{key}`" not in section("## Creating a job")] == []


@pytest.mark.parametrize(
    ("heading", "number", "ours", "theirs"),
    [
        ("## The job", 0, FineTuningJob, TheirJob),
        ("### Events", 0, FineTuningJobEvent, TheirEvent),
        ("### Checkpoints", 0, FineTuningJobCheckpoint, TheirCheckpoint),
        ("## Files", 1, FileObject, TheirFile),
        ("## Models", 0, ModelObject, TheirModel),
    ],
)
def test_each_field_of_an_answer_is_documented(
    heading: str, number: int, ours: type[BaseModel], theirs: type[BaseModel]
) -> None:
    check(told(heading, number), set(fields_of(ours)), set(theirs.model_fields))


def test_each_field_of_the_form_of_an_upload_is_documented() -> None:
    check(told("## Files"), set(FORM["properties"]), set(FileCreateParams.__annotations__))


def test_each_field_of_what_lists_deletions_and_errors_return_is_documented() -> None:
    assert set(Page.model_fields) <= set(spans(section("## Calls")))
    for heading, model in (("## Files", FileDeleted), ("## Models", ModelDeleted)):
        assert set(model.model_fields) <= set(spans(section(heading)))
    assert {name.rpartition(".")[2] for name in fields_of(ErrorAnswer)} <= set(spans(section("## Errors")))


def codes_of_failed_jobs() -> set[str]:
    return {code for cells in tables("### Errors of a job")[0] for code in spans(cells[0])}


def test_each_status_of_a_job_is_documented() -> None:
    assert set(told("### Status")) == set(get_args(Status))


def test_each_column_of_a_result_file_is_documented() -> None:
    assert set(COLUMNS) <= set(spans(section("### Result file")))


def test_each_call_and_each_of_its_parameters_is_documented() -> None:
    document = machine_app().openapi()["paths"]
    served = {
        f"{method.upper()} {path.removeprefix(PREFIX)}": {
            one["name"] for one in operation.get("parameters", []) if one["in"] == "query"
        }
        for path, operations in document.items()
        for method, operation in operations.items()
        if path.startswith(PREFIX)
    }
    rows = [cells for cells in tables("## Calls")[0] if cells[0].startswith("`")]
    assert {spans(cells[1])[0]: set(spans(cells[2])) for cells in rows} == served


def test_each_status_and_code_of_an_error_is_documented() -> None:
    rows = tables("## Errors")[0]
    statuses = {int(cells[0]) for cells in rows}
    raised = {int(status) for status in re.findall(r"(?:ApiError|HTTPException)\(\s*(\d{3})\b", SOURCE)}
    assert {400, 405, 413, 500, 504} <= raised
    assert raised == statuses
    codes = set(re.findall(r'\bcode="([a-z_]+)"', SOURCE))
    codes |= {f"{kind}_not_found" for kind in re.findall(r'not_found\("([a-z]+)"', SOURCE)}
    # A request may also be refused with the code of a failed job.
    assert codes <= {code for cells in rows for code in spans(cells[1])} <= codes | codes_of_failed_jobs()


def test_each_code_of_a_failed_job_is_documented() -> None:
    assert {*CODES.values(), REFUSED, FAULT} <= codes_of_failed_jobs()
