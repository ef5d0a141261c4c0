"""Schedules as Argo reads them. The accepted and refused ones were compared with robfig/cron v3.0.1 itself."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml

from pipelines.cluster.cron_schedule import parse
from pipelines.command import main
from steps.common.runtime.errors import UserError

ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 11, 28, 10, 30, 20, tzinfo=UTC)  # a Saturday


@pytest.mark.parametrize(
    ("at", "first"),
    [
        ("0 3 * * *", "2026-11-29 03:00"),
        ("30 10 * * *", "2026-11-29 10:30"),
        ("31 10 * * *", "2026-11-28 10:31"),
        ("*/15 * * * *", "2026-11-28 10:45"),
        ("40/10 * * * *", "2026-11-28 10:40"),
        ("0 9-17/4 * * *", "2026-11-28 13:00"),
        ("0 3 * * 0", "2026-11-29 03:00"),
        ("0 3 ? * MON-FRI", "2026-11-30 03:00"),
        ("0 3 * * fri,sun", "2026-11-29 03:00"),
        ("0 3 1 jan *", "2027-01-01 03:00"),
        ("0 3 13 * 5", "2026-12-04 03:00"),  # either of the two days
        ("0 3 */2 * 1", "2026-11-29 03:00"),  # a step restricts: again either of the two
        ("0 3 29 2 *", "2028-02-29 03:00"),
        ("+5 3 * * *", "2026-11-29 03:05"),
        ("@daily", "2026-11-29 00:00"),
        ("@midnight", "2026-11-29 00:00"),
        ("@weekly", "2026-11-29 00:00"),
        ("@annually", "2027-01-01 00:00"),
        ("@every 1h30m", "2026-11-28 12:00"),
        ("@every 12h", "2026-11-28 22:30"),
    ],
)
def test_what_argo_accepts_is_accepted(at: str, first: str) -> None:
    found = parse(at).first_after(NOW)
    assert found
    assert f"{found:%Y-%m-%d %H:%M}" == first


@pytest.mark.parametrize(
    ("at", "line"),
    [
        ("0 3 * * 7", "day of week '7' is not 0-6 or SUN-SAT"),
        ("0 3 * * 1-7", "day of week '1-7' is not 0-6"),
        ("0 3 * * MON#3", "day of week 'MON#3' is not"),
        ("0 3 * * 5L", "day of week '5L' is not"),
        ("0 3 * * L", "day of week 'L' is not"),
        ("0 3 L * *", "day of month 'L' is not 1-31"),
        ("0 3 15W * *", "day of month '15W' is not"),
        ("0 3 0 * *", "day of month '0' is not"),
        ("0 3 * 13 *", "month '13' is not 1-12 or JAN-DEC"),
        ("0 3 * january *", "month 'january' is not"),
        ("0 3 * * FRI-MON", "day of week 'FRI-MON' is a range that ends before it begins"),
        ("0 24 * * *", "hour '24' is not 0-23"),
        ("60 3 * * *", "minute '60' is not 0-59"),
        ("-5 3 * * *", "minute '-5' is not"),
        ("*/0 3 * * *", "minute '*/0' has the step '0'"),
        ("*/2/3 3 * * *", "minute '*/2/3' has the step '2/3'"),
        ("1-2-3 3 * * *", "minute '1-2-3' is not"),
        ("1,,2 3 * * *", "minute '1,,2' is not"),
        ("H 3 * * *", "minute 'H' is not"),
        ("٣ 3 * * *", "minute '٣' is not"),
        ("0 0 3 * * 1", "has 6 fields; give five: minute, hour, day of month, month, and day of week"),
        ("0 3 * *", "has 4 fields; give five"),
        ("", "has 0 fields; give five"),
        ("daily", "has 1 field; give five"),
        ("@reboot", "unknown schedule '@reboot'; known are @hourly, "),
        ("@every", "unknown schedule '@every'"),
        ("@every 3d", "'3d' is not a duration; write it as 90m, 12h, or 1h30m"),
        ("@every 12", "'12' is not a duration"),
        ("TZ=Europe/Berlin 0 3 * * *", "give it with --time-zone"),
    ],
)
def test_what_argo_refuses_is_refused_and_the_field_is_named(at: str, line: str) -> None:
    with pytest.raises(UserError) as told:
        parse(at)
    assert line in str(told.value)
    assert str(told.value).startswith("--at: ")
    assert "\n" not in str(told.value)


def test_a_time_that_a_change_of_the_clock_skips_is_passed_over() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    before = datetime(2027, 3, 28, 1, 0, tzinfo=berlin)
    first = parse("30 2 * * *").first_after(before)
    assert first == datetime(2027, 3, 29, 2, 30, tzinfo=berlin)


def test_a_date_that_no_year_has_never_comes() -> None:
    assert parse("0 3 30 2 *").first_after(NOW) is None


def test_the_schedules_that_are_installed_are_such_schedules() -> None:
    found = [
        schedule
        for file in (ROOT / "argo").rglob("*-cron.yaml")
        for schedule in yaml.safe_load(file.read_text())["spec"]["schedules"]
    ]
    assert len(found) >= 2
    for schedule in found:
        first = parse(schedule).first_after(NOW)
        assert first
        assert first - NOW < timedelta(days=8)


@pytest.mark.parametrize("at", ["* * * * 7", "0 3 30 2 *"])
def test_the_command_says_so_before_it_asks_the_cluster(
    at: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: m\nmodel: qwen2.5-0.5b-instruct\ndata: {train: 's3://chats/rows.jsonl'}\n")
    nowhere = tmp_path / "kubeconfig"
    nowhere.write_text(
        yaml.safe_dump(
            {
                "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
                "users": [{"name": "u", "user": {}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "c",
            }
        )
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(nowhere))
        # The client reads the variable only when it is imported.
        patch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(nowhere))
        assert main(["schedule", str(recipe), "-n", "here", "--at", at]) == 2
    assert capsys.readouterr().err.startswith(f"fineline: --at: {at!r}")
