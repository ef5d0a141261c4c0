"""Cron schedules as Argo reads them: the grammar and the times of robfig/cron v3.0.1, which differ from those of other crons.

https://github.com/robfig/cron/blob/v3.0.1/parser.go, as Argo 4.1 calls it:
https://github.com/argoproj/argo-workflows/blob/v4.1.2/workflow/validate/validate.go
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from steps.common.runtime.errors import UserError

FIELDS = "minute, hour, day of month, month, and day of week"
SHORT = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
EVERY = "@every "
UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
PART = re.compile(r"(?P<number>\d+\.?\d*|\.\d+)(?P<unit>ns|us|µs|ms|s|m|h)")
NUMBER = re.compile(r"\+?[0-9]{1,9}")
MOST_YEARS = 5  # after which robfig/cron gives up, and the schedule never fires


@dataclass(frozen=True)
class Field:
    """A field of a schedule: its name, and the values that it may have."""

    name: str
    first: int
    last: int
    names: tuple[str, ...] = ()  # of the values, beginning with the first

    @property
    def allowed(self) -> str:
        """Return the allowed values in words."""
        return f"{self.first}-{self.last}" + (f" or {self.names[0]}-{self.names[-1]}" if self.names else "")


MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
MINUTE, HOUR = Field("minute", 0, 59), Field("hour", 0, 23)
DAY, MONTH = Field("day of month", 1, 31), Field("month", 1, 12, MONTHS)
WEEKDAY = Field("day of week", 0, 6, WEEKDAYS)


@dataclass(frozen=True)
class Values:
    """The values of a field; `star`: it restricts nothing, so that the other field of the day alone decides."""

    allowed: frozenset[int]
    star: bool


@dataclass(frozen=True)
class Every:
    """A schedule with a fixed interval in seconds."""

    seconds: float

    def first_after(self, now: datetime) -> datetime:
        """Return the schedule's first time after `now`."""
        return now + timedelta(seconds=self.seconds)


@dataclass(frozen=True)
class Times:
    """A schedule with a set of values for each field."""

    minutes: Values
    hours: Values
    days: Values
    months: Values
    weekdays: Values

    def first_after(self, now: datetime) -> datetime | None:
        """Return the schedule's first time after `now`, in its time zone; None: it has none within five years.

        A time that a change of the clock skips is passed over.
        """
        day = now.date()
        while day.year <= now.year + MOST_YEARS:
            if day.month in self.months.allowed and self._is_on(day.day, day.isoweekday() % 7):
                for hour in sorted(self.hours.allowed):
                    for minute in sorted(self.minutes.allowed):
                        at = datetime(day.year, day.month, day.day, hour, minute, tzinfo=now.tzinfo)
                        exists = at.astimezone(UTC).astimezone(now.tzinfo).replace(tzinfo=None)
                        if exists == at.replace(tzinfo=None) and at.astimezone(UTC) > now.astimezone(UTC):
                            return at
            day += timedelta(days=1)
        return None

    def _is_on(self, day: int, weekday: int) -> bool:
        on = (day in self.days.allowed, weekday in self.weekdays.allowed)
        return all(on) if self.days.star or self.weekdays.star else any(on)


def parse(schedule: str) -> Every | Times:
    """Read a schedule as Argo does.

    Raises:
        UserError: Argo would refuse it; the text names the field.
    """
    words = schedule.split()
    if words and words[0].startswith(("TZ=", "CRON_TZ=")):
        raise UserError(f"--at: {schedule!r} names a time zone; give it with --time-zone")
    if schedule.startswith("@"):
        return _descriptor(schedule)
    if len(words) != 5:
        count = f"{len(words)} field{'s' if len(words) != 1 else ''}"
        raise UserError(f"--at: {schedule!r} has {count}; give five: {FIELDS}, for example '0 3 * * 1-5'")
    minutes, hours, days, months, weekdays = (
        _values(schedule, field, word) for field, word in zip((MINUTE, HOUR, DAY, MONTH, WEEKDAY), words, strict=True)
    )
    return Times(minutes, hours, days, months, weekdays)


def _descriptor(schedule: str) -> Every | Times:
    if schedule in SHORT:
        return parse(SHORT[schedule])
    if not schedule.startswith(EVERY):
        raise UserError(f"--at: unknown schedule {schedule!r}; known are {', '.join(SHORT)}, and '@every 12h'")
    duration = schedule.removeprefix(EVERY)
    parts = list(PART.finditer(duration))
    if not parts or "".join(part[0] for part in parts) != duration:
        raise UserError(f"--at: {duration!r} is not a duration; write it as 90m, 12h, or 1h30m")
    return Every(max(1.0, sum(float(part["number"]) * UNITS[part["unit"]] for part in parts)))


def _values(schedule: str, field: Field, word: str) -> Values:
    """Return the values of a field: a list of ranges, each with a step or without.

    Raises:
        UserError: the field is not such a list, or has a value that it may not have.
    """
    wrong = f"--at: {schedule!r}: {field.name} {word!r}"
    found: set[int] = set()
    star = False
    for expression in word.split(","):
        span, slash, step_word = expression.partition("/")
        low_word, hyphen, high_word = span.partition("-")
        step = int(step_word) if NUMBER.fullmatch(step_word) else 0
        if slash and step == 0:
            raise UserError(f"{wrong} has the step {step_word!r}; a step is a number from 1 on")
        if span in ("*", "?"):
            low, high = field.first, field.last
            star = star or step <= 1
        else:
            low = _number(wrong, field, low_word)
            # N/STEP means from N to the field's last value.
            high = _number(wrong, field, high_word) if hyphen else field.last if slash else low
        if low > high:
            raise UserError(f"{wrong} is a range that ends before it begins; write it as two, separated by a comma")
        found.update(range(low, high + 1, step or 1))
    return Values(frozenset(found), star)


def _number(wrong: str, field: Field, word: str) -> int:
    if word.upper() in field.names:
        return field.first + field.names.index(word.upper())
    number = int(word) if NUMBER.fullmatch(word) else -1
    if not field.first <= number <= field.last:
        sunday = "; Sunday is 0" if field is WEEKDAY else ""
        raise UserError(
            f"{wrong} is not {field.allowed}, a list or a range of these, or '*', with or without a step{sunday}"
        )
    return number
