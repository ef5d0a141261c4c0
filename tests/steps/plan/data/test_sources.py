"""Sources of rows: files, folders, patterns and links on this machine and in a store; mixtures; what is sent to a cluster."""

import json
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from api.files.file_contents import NAME
from pipelines.cluster.transfer import send_data
from pipelines.cluster.transfer.send_data import STORE_SETTING, with_data_in_reach
from pipelines.commands.schedule import schedule
from recipes.data import Data, RowSource
from recipes.reader import load
from steps.common.runtime.errors import UserError
from steps.common.storage.files import sha256_of
from steps.plan.addresses import check_addresses, kept
from steps.plan.check_recipe import check_recipe
from steps.plan.data import local_files
from steps.plan.data.data_file import inspect_data
from steps.plan.data.file_names import MOST_FILES
from steps.plan.data.local_copy import LocalCopy, fetch_all
from steps.plan.data.local_files import find_local


def rows(count: int, name: str = "row") -> str:
    return "".join(json.dumps({"prompt": f"{name} {n}?", "completion": "x" * 60}) + "\n" for n in range(count))


def make(folder: Path, *names: str, text: str = '{"text": "a"}\n') -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


BESIDE = (
    ".hidden.jsonl",
    ".git/a.json",
    "_SUCCESS",
    "_delta_log/0.json",
    "README.md",
    "LICENSE.txt",
    "dataset_infos.json",
    "cache-0a1b.arrow",
)


@pytest.mark.parametrize(
    ("place", "names"),
    [
        ("", ["a.jsonl", "b/c.csv.gz", "b/d.parquet"]),
        ("b", ["b/c.csv.gz", "b/d.parquet"]),
        ("*.jsonl", ["a.jsonl"]),
        ("**/*", ["a.jsonl", "b/c.csv.gz", "b/d.parquet"]),
        ("b/?.[cp]*", ["b/c.csv.gz", "b/d.parquet"]),
        ("a.jsonl", ["a.jsonl"]),
    ],
)
def test_a_folder_and_a_pattern_give_their_files_of_rows(
    tmp_path: Path, place: str, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path, *BESIDE, "b/d.parquet", "a.jsonl", "b/c.csv.gz", "b/notes.txt")
    assert [file.relative_to(tmp_path).as_posix() for file in find_local(str(tmp_path / place))] == names
    told = capsys.readouterr().err
    assert ("left out, of no known kind of rows" in told) == (place in ("", "b", "**/*"))
    assert "notes.txt" in told or not told


def test_rows_are_read_whatever_their_file_is_called(tmp_path: Path) -> None:
    make(tmp_path, "changelog.jsonl", "notice-board.csv", "readme.json", "changelog.txt")
    assert [file.name for file in find_local(str(tmp_path))] == ["changelog.jsonl", "notice-board.csv", "readme.json"]


def test_a_wildcard_may_stand_in_the_first_folder(tmp_path: Path) -> None:
    make(tmp_path, "a.jsonl")
    first, *others = tmp_path.parts[1:]
    assert find_local("/".join(["", f"{first[:-1]}?", *others, "*"])) == [tmp_path / "a.jsonl"]


def test_a_name_with_a_wildcard_in_it_is_taken_as_it_is(tmp_path: Path) -> None:
    make(tmp_path, "rows[1].jsonl", "rows1.jsonl")
    assert find_local(str(tmp_path / "rows[1].jsonl")) == [tmp_path / "rows[1].jsonl"]


def test_a_link_counts_by_its_own_name(tmp_path: Path) -> None:
    make(tmp_path, "blobs/0a1b2c", "elsewhere/deep/x.jsonl")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").symlink_to(tmp_path / "blobs" / "0a1b2c")
    (tmp_path / "data" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "deep" / "circle").symlink_to(tmp_path / "data")
    assert [file.name for file in find_local(str(tmp_path / "data"))] == ["x.jsonl", "train.jsonl"]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: shop\ndata: {train: data/train.jsonl}\n")
    assert load(str(recipe)).data.train == str(tmp_path / "data" / "train.jsonl")


@pytest.mark.parametrize(
    ("names", "place", "told"),
    [
        ([], "none.jsonl", "none.jsonl: no such data file"),
        ([], "*.jsonl", "*.jsonl: no file matches"),
        (["a.txt"], "", "has no file of rows, only a.txt; known kinds are .jsonl"),
        (["_SUCCESS"], "", "has no file of rows; known kinds"),
        (["a.txt"], "a.txt", "unknown kind of data file '.txt'"),
        (["train.jsonl", "test.jsonl"], "", "has the files of several splits (train: train.jsonl; test: test.jsonl)"),
        (["train/0.jsonl", "dev/0.jsonl"], "", "(train: train/0.jsonl; validation: dev/0.jsonl)"),
        ([f"{number}.jsonl" for number in range(MOST_FILES + 1)], "", f"a run may have {MOST_FILES}"),
        (["a.jsonl"], "**a.jsonl", "not a pattern of files"),
    ],
)
def test_a_place_without_usable_files_is_one_line(tmp_path: Path, names: list[str], place: str, told: str) -> None:
    make(tmp_path, *names)
    with pytest.raises(UserError, match=re.escape(told)) as caught:
        find_local(str(tmp_path / place))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["", "gone.jsonl", "*.jsonl"])
def test_a_link_that_leads_nowhere_is_one_line(tmp_path: Path, place: str) -> None:
    make(tmp_path, "a.jsonl")
    (tmp_path / "gone.jsonl").symlink_to("deleted.jsonl")
    with pytest.raises(UserError, match=re.escape("gone.jsonl: is a link to deleted.jsonl, which does not exist")):
        find_local(str(tmp_path / place))


def test_empty_parts_of_a_folder_are_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, "part-1.jsonl", text=rows(4))
    make(tmp_path, "part-2.jsonl", text="")
    found = inspect_data(Data(train=str(tmp_path)), "sft")
    assert found
    assert [Path(file.path).name for file in found.files.train[0].files] == ["part-1.jsonl"]
    assert "left out, empty: part-2.jsonl" in capsys.readouterr().err
    make(tmp_path, "part-1.jsonl", text="")
    with pytest.raises(UserError, match="has only empty files of rows"):
        inspect_data(Data(train=str(tmp_path)), "sft")


def test_a_source_is_told_in_words(tmp_path: Path) -> None:
    make(tmp_path, "a/1.jsonl", "a/2.jsonl", "b.jsonl", text=rows(4))
    folder, file = f"{tmp_path}/a", f"{tmp_path}/b.jsonl"
    by_weight = inspect_data(Data(train=[folder, RowSource(source=file, weight=2)]), "sft")
    by_share = inspect_data(Data(train=[RowSource(source=[folder, file], share=1)]), "sft")
    assert by_weight
    assert by_share
    assert [one.in_words for one in by_weight.files.train] == [f"{folder} (2 files)", f"{file}, 2 times per epoch"]
    assert [one.in_words for one in by_share.files.train] == [f"{folder}, {file} (3 files), 100% of the rows"]


MIXTURES: list[tuple[Any, int, int]] = [
    # data.train, training rows, held-out rows; `big` has 80 rows and `small` 20
    (["big", "small"], 90, 10),
    (["big", {"source": "small", "weight": 3}], 126, 10),
    ([{"source": "big", "weight": 0.5}, "small"], 54, 10),
    ([{"source": "big", "share": 0.5}, {"source": "small", "share": 0.5}], 36, 10),
    ([{"source": "big", "share": 0.9}, {"source": "small", "share": 0.1}], 80, 10),
    ([{"source": ["big", "small"], "share": 1}], 90, 10),
]


@pytest.mark.parametrize(("train", "trained", "held"), MIXTURES)
def test_the_size_of_a_mixture_is_told(tmp_path: Path, train: Any, trained: int, held: int) -> None:
    make(tmp_path, "big.jsonl", text=rows(80, "big"))
    make(tmp_path, "small/0.jsonl", text=rows(12, "some"))
    make(tmp_path, "small/1.jsonl", text=rows(8, "more"))
    places = {"big": str(tmp_path / "big.jsonl"), "small": str(tmp_path / "small")}
    text = json.dumps(train)
    for name, place in places.items():
        text = text.replace(f'"{name}"', json.dumps(place))
    found = inspect_data(Data(train=json.loads(text)), "sft")
    assert found
    assert (found.train.rows, found.held_out.rows) == (trained, held)
    assert found.train.tokens == pytest.approx(found.held_out.tokens * trained / held, rel=0.05)
    plain = [one.weight == 1 and one.share is None for one in found.files.train]
    assert [len(one.files) for one in found.files.train][-1] == (3 if len(train) == 1 else 2)
    assert all(plain) == (train == ["big", "small"])
    own = inspect_data(Data(train=json.loads(text), validation=[str(tmp_path / "small" / "0.jsonl")]), "sft")
    assert own
    assert own.train.rows == pytest.approx(trained / 0.9, abs=1)
    assert own.held_out.rows == 12


@pytest.mark.parametrize(
    ("second", "told"),
    [
        ('{"text": ', "b.jsonl:1: not JSON"),
        ('{"text": "a"}\n{"prompt": "a"}\n', "b.jsonl:2: has the columns prompt"),
        ("\n", "b.jsonl: has no rows; it needs at least two"),
    ],
)
def test_the_head_of_each_source_is_read(tmp_path: Path, second: str, told: str) -> None:
    make(tmp_path, "a.jsonl", text=rows(4))
    make(tmp_path, "b.jsonl", text=second)
    with pytest.raises(UserError, match=re.escape(told)):
        inspect_data(Data(train=[str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]), "sft")


def test_a_file_belongs_to_one_source(tmp_path: Path) -> None:
    make(tmp_path, "a.jsonl", text=rows(4))
    with pytest.raises(UserError, match=r"data.train: .*a.jsonl belongs to two sources"):
        inspect_data(Data(train=[str(tmp_path / "a.jsonl"), str(tmp_path)]), "sft")


def test_addresses_that_differ_in_their_query_alone_are_two_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetched(place: str) -> list[LocalCopy]:
        page = place[-1]
        make(tmp_path, f"{page}/rows.jsonl", text=rows(4, page))
        path = tmp_path / page / "rows.jsonl"
        return [LocalCopy(pinned="https://host/rows", tag="", path=str(path), sha256=sha256_of(path), bytes=1)]

    monkeypatch.setattr("steps.plan.data.data_file.fetch_all", fetched)
    found = inspect_data(Data(train=["https://host/rows?page=1", "https://host/rows?page=2"]), "sft")
    assert found is not None
    assert len(found.files.train) == 2
    monkeypatch.setattr("steps.plan.data.data_file.fetch_all", lambda place: fetched("1"))
    with pytest.raises(UserError, match="https://host/rows belongs to two sources"):
        inspect_data(Data(train=["https://host/rows?page=1", "https://host/rows?page=1&a"]), "sft")


def test_one_row_here_may_have_others_elsewhere(tmp_path: Path) -> None:
    make(tmp_path, "a.jsonl")
    mixture = Data(train=[f"{tmp_path}/a.jsonl", "s3://chats/b.jsonl"])
    assert inspect_data(mixture, "sft", lambda place: "://" not in place) is None
    with pytest.raises(UserError, match=r"a\.jsonl: has one row"):
        inspect_data(Data(train=f"{tmp_path}/a.jsonl"), "sft")


def test_all_files_of_a_run_are_counted_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a/1.jsonl", "a/2.jsonl", "b/1.jsonl", "b/2.jsonl", text=rows(2))
    monkeypatch.setattr("steps.plan.data.data_file.MOST_FILES", 3)
    with pytest.raises(UserError, match="data: has 4 files of rows, and a run may have 3"):
        inspect_data(Data(train=f"{tmp_path}/a", validation=f"{tmp_path}/b"), "sft")


def test_a_key_in_an_address_is_for_this_machine_alone_and_is_not_kept() -> None:
    train = "[a.jsonl, {source: ['https://u:pass@host/b.jsonl', c.jsonl], weight: 2}]"
    tasks = "[{data: [a.jsonl, 'https://u:pass@host/d.jsonl'], metric: exact}]"
    recipe = load("pet-store", {"data.train": train, "data.validation": "", "evaluate.tasks": tasks})
    check_addresses(recipe, on_this_machine=True)
    with pytest.raises(UserError, match=r"data\.train\.1\.source\.0: the address has a key in it"):
        check_addresses(recipe, on_this_machine=False)
    assert kept(recipe).data.sources[1].places[0] == "https://host/b.jsonl"
    assert "pass" not in kept(recipe).model_dump_json()


def test_a_folder_and_a_pattern_in_a_store(bucket: Any) -> None:
    for key in ("day/1.jsonl", "day/2.jsonl", "day/deep/3.jsonl", "day/notes.txt", "day/_SUCCESS", "other.jsonl"):
        bucket.put_object(Bucket="chats", Key=key, Body=rows(2, key).encode())

    def found(url: str) -> list[str]:
        return [copy.pinned.removeprefix("s3://chats/") for copy in fetch_all(url)]

    assert found("s3://chats/day/") == ["day/1.jsonl", "day/2.jsonl", "day/deep/3.jsonl"]
    assert found("s3://chats/day/[12].jsonl") == ["day/1.jsonl", "day/2.jsonl"]
    assert found("s3://chats/**/3.*") == ["day/deep/3.jsonl"]
    assert found("s3://chats/*.jsonl") == ["other.jsonl"]
    with pytest.raises(UserError, match="no object matches"):
        fetch_all("s3://chats/day/*.csv")


def connection(store: str = "s3://chats/sent") -> Any:
    settings = SimpleNamespace(data={STORE_SETTING: store})
    return SimpleNamespace(namespace="fineline", core=SimpleNamespace(read_namespaced_config_map=lambda *_: settings))


def test_every_local_file_is_sent_and_the_mixture_stays(tmp_path: Path, bucket: Any) -> None:
    make(tmp_path, "a.jsonl", text=rows(4, "a"))
    make(tmp_path, "more/1.jsonl", text=rows(4, "1"))
    make(tmp_path, "more/2.jsonl", text=rows(4, "2"))
    make(tmp_path, "ask/1.jsonl", text=rows(2, "3"))
    bucket.put_object(Bucket="chats", Key="there.jsonl", Body=rows(2).encode())
    more, there = str(tmp_path / "more"), "s3://chats/there.jsonl"
    train = [f"{tmp_path}/a.jsonl", {"source": [more, there], "weight": 2}, f"{tmp_path}/more/[3-9]*"]
    make(tmp_path, "more/3.jsonl", text=rows(4, "4"))
    changes = {
        "data.train": json.dumps(train).replace(json.dumps(more), json.dumps(f"{more}/[12].jsonl")),
        "data.validation": str(tmp_path / "ask"),
        "evaluate.tasks": json.dumps([{"data": str(tmp_path / "more"), "metric": "exact"}, {"metric": "exact"}]),
    }
    sent = with_data_in_reach(connection(), load("pet-store", changes))

    def at(name: str) -> str:
        return f"s3://chats/sent/{sha256_of(tmp_path / name)[:16]}/{Path(name).name}"

    assert sent.data.model_dump(exclude_defaults=True)["train"] == [
        at("a.jsonl"),
        {"source": [at("more/1.jsonl"), at("more/2.jsonl"), there], "weight": 2},
        at("more/3.jsonl"),
    ]
    assert sent.data.validation == at("ask/1.jsonl")
    assert sent.evaluate.tasks[0].data == [at("more/1.jsonl"), at("more/2.jsonl"), at("more/3.jsonl")]
    assert sent.evaluate.tasks[1].places == []
    key = at("more/2.jsonl").removeprefix("s3://chats/")
    assert bucket.get_object(Bucket="chats", Key=key)["Body"].read() == (tmp_path / "more/2.jsonl").read_bytes()
    assert load(sent.model_dump_json()) == sent


def test_a_local_folder_becomes_a_list_of_files(tmp_path: Path, bucket: Any) -> None:
    make(tmp_path, "more/1.jsonl", text=rows(4, "1"))
    make(tmp_path, "more/2.jsonl", text=rows(4, "2"))
    changes = {"data.train": str(tmp_path / "more"), "data.validation": ""}
    sent = with_data_in_reach(connection(), load("pet-store", changes))
    assert isinstance(sent.data.train, list)
    assert [str(place).rpartition("/")[2] for place in sent.data.train] == ["1.jsonl", "2.jsonl"]


def test_no_file_is_sent_under_a_name_that_the_api_deletes(tmp_path: Path, bucket: Any) -> None:
    for number, name in enumerate(("uploaded.jsonl", "uploaded-rows.jsonl")):
        make(tmp_path, f"more/{name}", text=rows(4, str(number)))
    sent = with_data_in_reach(connection(), load("pet-store", {"data.train": str(tmp_path / "more")}))
    names = [str(place).rpartition("/")[2] for place in sent.data.train]
    assert sorted(names) == ["2-uploaded.jsonl", "uploaded-rows.jsonl"]
    assert not any(name.startswith(f"{NAME}.") for name in names)


@pytest.mark.parametrize("store", ["s3://chats/sent", ""])
def test_two_files_with_the_same_name_and_content_stay_two(
    tmp_path: Path, bucket: Any, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "more/a/rows.jsonl", "more/b/rows.jsonl", text=rows(4))
    monkeypatch.setattr(send_data, "upload", lambda _connection, _file, name, sha256: f"/data/{sha256[:16]}/{name}")
    changes = {"data.train": str(tmp_path / "more"), "data.validation": ""}
    sent = with_data_in_reach(connection(store), load("pet-store", changes))
    assert [str(place).rpartition("/")[2] for place in sent.data.train] == ["rows.jsonl", "2-rows.jsonl"]
    assert load(sent.model_dump_json()) == sent


def test_a_file_is_hashed_once_unless_it_changes_before_it_is_sent(
    tmp_path: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path, "more/1.jsonl", "more/2.jsonl", text=rows(4))
    make(tmp_path, "more/3.jsonl", text="")
    hashed: list[str] = []

    def counted(path: Path) -> str:
        hashed.append(path.name)
        return sha256_of(path)

    monkeypatch.setattr(local_files, "sha256_of", counted)
    changes = {"data.train": str(tmp_path / "more"), "data.validation": ""}
    with_data_in_reach(connection(), load("pet-store", changes))
    assert len(hashed) == len(set(hashed))
    assert {"1.jsonl", "2.jsonl"} <= set(hashed)
    assert capsys.readouterr().err.count("left out, empty: 3.jsonl") == 1

    def change_after(*given: Any) -> Any:
        checked = check_recipe(*given)
        make(tmp_path, "more/2.jsonl", text=rows(4, "new"))  # of the same size
        os.utime(tmp_path / "more/2.jsonl", (1, 1))
        return checked

    monkeypatch.setattr(send_data, "check_recipe", change_after)
    sent = with_data_in_reach(connection(), load("pet-store", changes))
    assert str(sent.data.train[1]).split("/")[-2] == sha256_of(tmp_path / "more/2.jsonl")[:16]


def test_files_whose_names_no_parameter_of_a_run_could_hold_are_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, *(f"more/{number:03d}-{'x' * 110}.jsonl" for number in range(150)), text=rows(1))
    monkeypatch.setattr(send_data, "put", None)
    changes = {"data.train": str(tmp_path / "more"), "data.validation": ""}
    with pytest.raises(
        UserError, match=r"names 151 files one by one, takes \d+ KiB, and on a cluster it may take 48 KiB; join"
    ):
        with_data_in_reach(connection(), load("pet-store", changes))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data.train": "[s3://chats/a.jsonl, {source: [s3://chats/b.jsonl, here.jsonl]}]"}, "data.train: /"),
        ({"data.train": "s3://chats/a.jsonl", "data.validation": "[s3://chats/b/, here]"}, "data.validation: /"),
    ],
)
def test_a_schedule_refuses_each_place_that_its_runs_cannot_read(
    changes: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.cluster.submission.installed", lambda _: None)
    with pytest.raises(UserError, match=r"here.* is on this machine, where a scheduled run cannot read it") as caught:
        schedule(connection(), load("pet-store", changes), "0 3 * * *", "UTC")
    assert str(caught.value).startswith(told)
