"""Lists, a page at a time."""

import pytest

from api.openai_errors import ApiError
from api.paging import Page, paged

ITEMS = ["a", "b", "c", "d", "e"]


def pages(limit: int) -> list[list[str]]:
    found, after, more = [], None, True
    while more:
        page = paged(ITEMS, lambda item: item, after, limit)
        found.append(page.data)
        after, more = page.last_id, page.has_more
    return found


@pytest.mark.parametrize("limit", [1, 2, 4, 5, 6])
def test_pages_together_have_each_item_once(limit: int) -> None:
    found = pages(limit)
    assert [item for page in found for item in page] == ITEMS
    assert all(len(page) == limit for page in found[:-1])
    assert found[-1]


def test_a_page_names_its_first_and_its_last_item() -> None:
    page = paged(ITEMS, str.upper, "B", 2)
    assert (page.data, page.first_id, page.last_id, page.has_more) == (["c", "d"], "C", "D", True)


def test_an_empty_list_is_a_page() -> None:
    page: Page[str] = paged([], str, None, 5)
    assert (page.data, page.first_id, page.last_id, page.has_more) == ([], None, None, False)
    assert paged(ITEMS, str, "e", 5).data == []


def test_an_item_that_is_not_there_is_refused() -> None:
    with pytest.raises(ApiError, match="the list has no item 'x'") as refused:
        paged(ITEMS, str, "x", 5)
    assert (refused.value.status, refused.value.param) == (400, "after")
