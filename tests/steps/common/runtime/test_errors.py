"""What an error of others becomes in a line of one's own."""

import pytest

from steps.common.runtime.errors import first_line


@pytest.mark.parametrize(("error", "line"), [(ValueError("no\nat all"), "no"), (TimeoutError(), "TimeoutError")])
def test_an_error_is_told_in_a_line_even_if_it_says_nothing(error: Exception, line: str) -> None:
    assert first_line(error) == line
