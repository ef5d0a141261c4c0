"""Lists as OpenAI's API returns them, a page at a time."""

from collections.abc import Callable, Sequence
from typing import Annotated, Generic, Literal, TypeVar

from fastapi import Query
from pydantic import BaseModel

from api.openai_errors import ApiError

MOST = 10_000

T = TypeVar("T")
After = Annotated[str | None, Query(description="Id of the last item on the previous page.")]
Limit = Annotated[int, Query(ge=1, le=MOST, description="Maximum number of items on a page.")]


class Page(BaseModel, Generic[T]):
    """A page of a list."""

    object: Literal["list"] = "list"
    data: list[T]
    has_more: bool
    first_id: str | None
    last_id: str | None


def paged(items: Sequence[T], id_of: Callable[[T], str], after: str | None, limit: int) -> Page[T]:
    """Return the page of a list that begins after the item with the id `after`.

    Raises:
        ApiError: the list has no such item.
    """
    first = 0
    if after is not None:
        first = next((place for place, item in enumerate(items, start=1) if id_of(item) == after), 0)
        if not first:
            raise ApiError(
                400, f"the list has no item {after!r}; after takes the id of an item in the list", param="after"
            )
    page = list(items[first : first + limit])
    return Page(
        data=page,
        has_more=first + limit < len(items),
        first_id=id_of(page[0]) if page else None,
        last_id=id_of(page[-1]) if page else None,
    )
