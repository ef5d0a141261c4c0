"""A difference between two models with its confidence interval, as the gate judges it and the report shows it."""

import math
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

CONFIDENCE = 0.95
FEW_ROWS = 10


class Difference(BaseModel):
    """A difference between two models as a share, and its interval; above 0 the first model is better.

    JSON has no infinity and no NaN: an open end of the interval, or a value that is not a number, is null there.
    """

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float
    rows: int

    @field_validator("value", mode="before")
    @classmethod
    def _value_from_null(cls, value: Any) -> Any:
        return math.nan if value is None else value

    @field_validator("low", mode="before")
    @classmethod
    def _low_from_null(cls, low: Any) -> Any:
        return -math.inf if low is None else low

    @field_validator("high", mode="before")
    @classmethod
    def _high_from_null(cls, high: Any) -> Any:
        return math.inf if high is None else high

    @property
    def better(self) -> bool:
        """Significantly better: the whole interval lies above 0."""
        return self.low > 0

    @property
    def worse(self) -> bool:
        """Significantly worse: the whole interval lies below 0."""
        return self.high < 0

    def in_words(self) -> str:
        """Return the difference with its interval, and a warning if there are few rows."""
        if self.rows < 2:
            return f"{signed(self.value)} from a single row: too few to tell a difference from noise"
        few = f", wide because there are only {self.rows} rows" if self.rows < FEW_ROWS else ""
        return f"{signed(self.value)} ({CONFIDENCE:.0%} interval {signed(self.low)} to {signed(self.high)}{few})"


def signed(share: float) -> str:
    """Return a share in percent with its sign; below one percent with two decimals."""
    return f"{share:+.2%}" if 0 < abs(share) < 0.01 else f"{share:+.1%}"
