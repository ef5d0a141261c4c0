"""What stands in place of the server's paths."""

import pytest

from api.jobs.file_places import with_ids

CONTENT = "a" * 16
FILE = f"file-{CONTENT}{'1' * 16}"


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ("x: /srv/runs/data/{}/uploaded.jsonl:3: bad", "x: {}:3: bad"),
        ("s3://bucket/{}/uploaded.csv", "{}"),
        ("s3://bucket/sent/{}/uploaded.csv.gz: no", "{}: no"),
        ("bucket/sent/{}/uploaded.csv: no", "{}: no"),
        ("data.train=/srv/{}/uploaded.csv", "data.train={}"),
        ("see '/srv/{}/uploaded.csv' (/srv/{}/uploaded.json)", "see '{}' ({})"),
        ("/srv/{}/other.csv", "/srv/aaaaaaaaaaaaaaaa/other.csv"),
        ("/srv/bbbbbbbbbbbbbbbb/uploaded.csv", "an uploaded file"),
    ],
)
def test_ids_stand_in_place_of_paths(place: str, shown: str) -> None:
    assert with_ids(place.replace("{}", CONTENT), [FILE]) == shown.replace("{}", FILE)


@pytest.mark.parametrize("part", ["/a", "a:/", "a.a://a.", "x=/", f"/{CONTENT}", "a"])
def test_each_part_of_a_long_text_is_read_once(part: str) -> None:
    text = part * 100_000  # read again for each part, it would take minutes
    assert with_ids(f"{text} /srv/{CONTENT}/uploaded.csv", [FILE]).endswith(f" {FILE}")
