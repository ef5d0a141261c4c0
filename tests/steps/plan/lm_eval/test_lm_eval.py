"""Tasks of lm-eval before a run: packed with their rows and tried once, or refused in one line."""

import json
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.cluster.transfer.send_data import STORE_SETTING, with_data_in_reach
from pipelines.commands.schedule import schedule
from pipelines.shown.cloud_quote import quote_for
from presets.gpu_preset import gpu_presets
from presets.ladder import Workload
from presets.model_preset import find
from recipes.evaluation import LmEvalTask
from recipes.reader import RecipeError, load
from steps.common.handover.made_from import made_from
from steps.common.handover.resolved import Resolved
from steps.common.lm_eval import pack
from steps.common.runtime.errors import UserError
from steps.plan.data.data_file import DataSize
from steps.plan.lm_eval.recipe_tasks import asked_too, packed_file
from steps.plan.quote.to_buy import offer
from steps.plan.step import PlanInput, resolve
from steps.prepare.step import PrepareInput, prepare
from tests.support.lm_eval_tasks import write_shop

KEY = "evaluate.lm_eval.0"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return write_shop(tmp_path / "tasks")


def packed(**wanted: Any) -> tuple[Path, pack.PackedRequest]:
    file = Path(packed_file(KEY, LmEvalTask(**wanted)).path)
    return file, pack.read(file, KEY)


def planned(model: Path, chats: Path, **task: Any) -> Resolved:
    recipe = {
        "name": "tiny",
        "model": model.as_uri(),
        "data": {"train": str(chats), "max_tokens": 64},
        "evaluate": {"lm_eval": [task]},
    }
    return resolve(PlanInput(recipe=json.dumps(recipe)))


def test_rows_are_spread_over_the_data_set_and_the_same_content_makes_the_same_file(shop: Path) -> None:
    file, asked = packed(task="shop", include=str(shop), rows=3)
    assert asked.rows == {"shop": [0, 10, 20]}
    assert (asked.metric, asked.filter, asked.count) == ("acc", "none", 3)
    assert asked.read_tokens > 3 * 2 * len("when do you have cats") // 4
    assert packed(task="shop", include=str(shop / "shop.yaml"), rows=3)[0] == file
    assert packed(task="shop", include=str(shop), rows=3, metric="acc_norm")[1].metric == "acc_norm"


def test_rows_are_spread_over_a_group_and_its_functions_are_packed(shop: Path) -> None:
    (shop / "utils.py").write_text("def answer(doc):\n    return doc['options'][doc['right']]\n")
    (shop / "_said").write_text(
        "dataset_path: json\ndataset_kwargs: {data_files: rows.jsonl}\ntest_split: train\n"
        "output_type: generate_until\ndoc_to_text: '{{ask}}'\ndoc_to_target: !function utils.answer\n"
        "generation_kwargs: {until: ['.'], max_gen_toks: 5}\n"
        "filter_list:\n"
        "  - {name: whole, filter: [{function: take_first}]}\n"
        "  - {name: word, filter: [{function: regex, regex_pattern: '(\\w+)'}, {function: take_first}]}\n"
        "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]\n"
    )
    for name in ("one", "two"):
        (shop / f"{name}.yaml").write_text(f"include: _said\ntask: {name}\n")
    (shop / "both.yaml").write_text("group: both\ntask: [one, two]\n")
    _, asked = packed(task="both", include=str(shop), rows=4, num_fewshot=1)
    assert asked.rows == {"one": [0, 15], "two": [0, 15]}
    assert asked.written_tokens == 4 * 5
    assert asked.metric_in_words == "exact_match,whole"
    _, asked = packed(task="both", include=str(shop), rows=4, metric="exact_match,word")
    assert asked.filter == "word"


def test_only_the_python_files_that_a_task_needs_are_packed(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (shop / "utils.py").write_text(
        "import os, sys\nsys.path.insert(0, os.path.dirname(__file__))\n"
        "def right(doc):\n    from inner.places import first\n    import words\n    return first(doc)\n"
    )
    (shop / "words.py").write_text("import utils_of_mine\n")
    (shop / "utils_of_mine.py").write_text("")
    (shop / "inner").mkdir()
    (shop / "inner" / "places.py").write_text("def first(doc):\n    return doc['right']\n")
    (shop / "secret.py").write_text("TOKEN = 'mine'\n")
    text = (shop / "shop.yaml").read_text().replace("doc_to_target: right", "doc_to_target: !function 'utils.right'")
    (shop / "shop.yaml").write_text(f"# not !function secret.token\n{text}")
    file, _ = packed(task="shop", include=str(shop), rows=2)
    names = {name for name in zipfile.ZipFile(file).namelist() if name.endswith(".py")}
    taken = ("utils", "words", "utils_of_mine", "inner/places")
    assert names == {f"{pack.DEFINITIONS}/{name}.py" for name in taken}


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (
            "",
            "knows no task 'shop'; .*/shop.yaml cannot be read: ValueError: Expected YAML dict from .*/_said, got Non",
        ),
        ("include: _gone", "knows no task 'shop'; .*/shop.yaml cannot be read: FileNotFoundError: .*/_gone'"),
    ],
)
def test_an_included_file_that_cannot_be_read_is_named(shop: Path, others: str, message: str) -> None:
    (shop / "_said").write_text(others)
    (shop / "shop.yaml").write_text(f"include: _said\n{(shop / 'shop.yaml').read_text()}")
    with pytest.raises(UserError, match=message):
        packed(task="shop", include=str(shop), rows=2)


@pytest.mark.parametrize("name", ["my/shop", "../shop", ".."])
def test_a_name_that_is_not_a_file_name_is_refused(shop: Path, name: str) -> None:
    text = (shop / "shop.yaml").read_text()
    (shop / "shop.yaml").write_text(text.replace("task: shop", f"task: {name}"))
    with pytest.raises(UserError, match="is not a valid file name; rename the task"):
        packed(task=name, include=str(shop), rows=2)


def test_a_version_is_made_from_the_content_of_a_task_and_not_its_path(
    tiny_model: Path, chats: Path, shop: Path
) -> None:
    before = planned(tiny_model, chats, task="shop", include=str(shop))
    elsewhere = shop.rename(shop.with_name("elsewhere"))
    again = planned(tiny_model, chats, task="shop", include=str(elsewhere))
    assert made_from(again) == made_from(before)
    write_shop(elsewhere, doc_to_text="{{ask}}?")
    assert made_from(planned(tiny_model, chats, task="shop", include=str(elsewhere))) != made_from(before)


def write_talk(shop: Path) -> None:
    """Write the task as one with long generated answers."""
    said = {"output_type": "generate_until", "doc_to_target": "{{options[0]}}", "doc_to_choice": None}
    exact = [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}]
    write_shop(shop, **said, metric_list=exact, generation_kwargs={"until": ["."], "max_gen_toks": 10_000})


def test_a_task_is_part_of_the_quote(tiny_model: Path, chats: Path, shop: Path) -> None:
    write_talk(shop)
    minutes = [
        planned(tiny_model, chats, task="shop", include=str(shop), rows=rows).quote.first.minutes["evaluate"]
        for rows in (1, 4)
    ]
    assert minutes[0] < minutes[1]


def test_a_task_is_part_of_a_clouds_quote(chats: Path, shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def minutes(*tasks: dict[str, Any]) -> dict[str, float]:
        recipe = {"name": "tiny", "model": "llama-3.1-8b-instruct", "data": {"train": str(chats)}}
        recipe["compute"] = {"instance_types": ["g6.xlarge"]}
        recipe["evaluate"] = {"lm_eval": list(tasks)}
        quote_for(load(json.dumps(recipe)), "aws", as_json=True)
        message: dict[str, float] = json.loads(capsys.readouterr().out)["ladder"][0]["minutes"]
        return message

    write_talk(shop)
    without, with_it = minutes(), minutes({"task": "shop", "include": str(shop), "rows": 4})
    assert without["evaluate"] < with_it["evaluate"]
    assert without["tune"] == with_it["tune"]
    with pytest.raises(UserError, match=r"lm-eval knows no task 'sho'; did you mean shop\?"):
        minutes({"task": "sho", "include": str(shop)})


def test_a_tasks_tokens_count_for_scoring_and_not_for_the_held_out_loss_during_training(shop: Path) -> None:
    preset, weights = find("llama-3.1-8b-instruct")
    held_out = DataSize(rows=10, tokens=1000)
    with_it = asked_too(held_out, [packed_file(KEY, LmEvalTask(task="shop", include=str(shop)))])

    def job(size: DataSize) -> Workload:
        learnt = DataSize(rows=10_000, tokens=3_000_000)
        presets = gpu_presets("aws")
        return offer(load("pet-store"), preset.architecture, learnt, size, weights.bytes, presets).job

    before, after = job(held_out), job(with_it)
    assert after.held_out_tokens - before.held_out_tokens == with_it.asked > 0
    assert after.evaluated_tokens == before.evaluated_tokens == 6 * 1000


@pytest.mark.parametrize(
    ("changes", "wanted", "message"),
    [
        ({}, {"task": "sho"}, "lm-eval knows no task 'sho'; did you mean shop?"),
        ({}, {"metric": "f1"}, "task shop has no metric 'f1' to compare rows by; choose one of acc, acc_norm"),
        ({}, {"include": "/nowhere"}, f"{KEY}.include: /nowhere: no such file or folder"),
        ({}, {"include": "s3://chats/tasks"}, r"only a packed task \(\.zip\) can be fetched from a URL"),
        (
            {"dataset_kwargs": {"data_files": "gone.jsonl"}},
            {},
            "task shop: its data set json cannot be read: .*gone.jsonl",
        ),
        (
            {"dataset_path": "org/unknown"},
            {},
            "its data set org/unknown cannot be read: .*; correct its name or the access to the",
        ),
        ({"doc_to_text": "{{ask"}, {}, "task shop cannot be loaded: TemplateSyntaxError"),
        ({"unsafe_code": True}, {}, "task shop runs code that the model writes, which is not supported"),
        (
            {"metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": False}]},
            {"metric": "acc"},
            "acc is not a mean over rows, .*; it has no other to choose from; choose another task",
        ),
    ],
)
def test_what_would_fail_after_the_tuning_stops_the_plan(
    shop: Path, changes: dict[str, Any], wanted: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    write_shop(shop, **changes)
    with pytest.raises(UserError, match=message) as raised:
        packed(**{"task": "shop", "include": str(shop), "rows": 2, **wanted})
    assert str(raised.value).startswith(KEY)
    assert "\n" not in str(raised.value)


@pytest.fixture
def website() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            "import urllib.request\nurllib.request.urlopen('WEBSITE').read()",
            "URLError: .*an evaluation has no network",
        ),
        ("def right(doc):\n    return open(os.path.expanduser('~/words')) and 0", "FileNotFoundError: .*/words"),
        (
            "if 'HF_HUB_OFFLINE' in os.environ:\n    print('gone', file=sys.stderr)\n    os._exit(3)",
            "its process ended with exit code 3: gone$",
        ),
    ],
)
def test_a_task_that_fetches_something_while_it_is_asked_stops_the_plan(
    shop: Path, website: str, function: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "words").write_text("cats")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    right = "def right(doc):\n    return doc['right']\n"
    (shop / "utils.py").write_text(f"import os, sys\n{right}{function.replace('WEBSITE', website)}\n")
    text = (shop / "shop.yaml").read_text()
    (shop / "shop.yaml").write_text(text.replace("doc_to_target: right", "doc_to_target: !function utils.right"))
    where = f"{KEY}: lm-eval's task shop"
    with pytest.raises(UserError, match=f"{re.escape(where)}.*{message}"):
        packed(task="shop", include=str(shop), rows=2)


def test_a_metric_that_would_come_from_a_hub_stops_the_plan(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluate.load", lambda _: SimpleNamespace(compute=lambda **_: 1.0))
    write_shop(shop, metric_list=[{"metric": "nowhere", "aggregation": "mean", "higher_is_better": True}])
    with pytest.raises(
        UserError, match="task shop: lm-eval has no metric nowhere, and an evaluation has no network to fetch"
    ):
        packed(task="shop", include=str(shop), rows=2)


def test_a_task_that_is_listed_twice_is_refused() -> None:
    with pytest.raises(RecipeError, match="lm_eval: shop is listed twice"):
        load("{name: a, data: {train: x.jsonl}, evaluate: {lm_eval: [{task: shop}, {task: shop, rows: 5}]}}")


def test_a_path_is_relative_to_the_recipes_folder(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("{name: a, data: {train: x.jsonl}, evaluate: {lm_eval: [{task: shop, include: tasks}]}}")
    assert load(str(file)).evaluate.lm_eval[0].include == str(tmp_path / "tasks")


def test_plan_and_prepare_refuse_a_task_if_lm_eval_is_not_installed(
    tiny_model: Path, chats: Path, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = planned(tiny_model, chats, task="shop", include=str(shop))
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(
        UserError, match=r"lm_eval\.0: lm-eval is not installed here; install it: uv pip install 'fineline\[lm-eval\]'"
    ):
        planned(tiny_model, chats, task="shop", include=str(shop))
    with pytest.raises(UserError, match="lm_eval: lm-eval is not installed"):
        prepare(PrepareInput(resolved=before, tokenizer_folder=str(tiny_model)))
    monkeypatch.setenv("FINELINE_SERVE_IMAGE", "fineline-serve:0.1.0")
    monkeypatch.setenv("FINELINE_API_KEY_DEFAULT", "none")
    with pytest.raises(
        UserError, match=r"plan in a cluster has neither lm-eval .*; send the recipe with 'fineline submit'"
    ):
        planned(tiny_model, chats, task="shop", include=str(shop))


def test_a_model_without_a_chat_template_is_refused_before_it_is_tuned(
    tiny_model: Path, chats: Path, shop: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_model, base, ignore=shutil.ignore_patterns("chat_template*"))
    resolved = planned(tiny_model, chats, task="shop", include=str(shop), chat_template=True)
    with pytest.raises(
        UserError, match=r"lm_eval\.0: chat_template: this model has none; set it to false, or choose a mode"
    ):
        prepare(PrepareInput(resolved=resolved, tokenizer_folder=str(base)))
    assert prepare(PrepareInput(resolved=resolved, tokenizer_folder=str(tiny_model))).summary
    plainly = planned(tiny_model, chats, task="shop", include=str(shop))
    assert prepare(PrepareInput(resolved=plainly, tokenizer_folder=str(base))).summary


def test_submit_packs_a_task_and_a_plan_without_lm_eval_fetches_it(
    tiny_model: Path, chats: Path, shop: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SimpleNamespace(data={STORE_SETTING: "s3://chats/sent"})
    connection: Any = SimpleNamespace(
        namespace="fineline", core=SimpleNamespace(read_namespaced_config_map=lambda *_: settings)
    )
    text = f"{{name: a, data: {{train: {chats}}}, evaluate: {{lm_eval: [{{task: shop, include: {shop}, rows: 3}}]}}}}"
    (sent,) = with_data_in_reach(connection, load(text)).evaluate.lm_eval
    assert sent.include.startswith("s3://chats/sent/")
    assert sent.include.endswith("/shop.zip")
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    (file,) = planned(tiny_model, chats, **sent.model_dump()).lm_eval
    assert pack.read(Path(file.path), KEY).rows == {"shop": [0, 10, 20]}
    with pytest.raises(UserError, match="was packed with rows 3; set the same here, or pack the task again"):
        planned(tiny_model, chats, **{**sent.model_dump(), "rows": 4})


NOTE: dict[str, Any] = {
    "wanted": {},
    "rows": {"shop": [0]},
    "num_fewshot": None,
    "chat_template": False,
    "metric": "acc",
    "filter": "none",
    "read_tokens": 1,
    "written_tokens": 1,
}


def flagged(file: Path, flag: int = 0, version: int = 0) -> None:
    """Set a flag, or the zip version needed, in the directory entry of a zip file's first member."""
    content = bytearray(file.read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 8] |= flag
    content[at + 6] = version or content[at + 6]
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("note", "members", "message"),
    [
        (None, [], "not a packed task"),
        ([1], [], "not a packed task"),
        ({"rows": 3}, [], "not a packed task"),
        ({**NOTE, "rows": {"a/../../b": [0]}}, [], "task name 'a/../../b' is not a valid file name"),
        ({**NOTE, "rows": {"..": [0]}}, [], "task name '..' is not a valid file name"),
        (NOTE, ["../evil.py"], "'../evil.py' would be unpacked outside its folder"),
        (NOTE, ["/etc/evil.py"], "'/etc/evil.py' would be unpacked outside its folder"),
        (NOTE, ["a\\..\\evil.py"], "would be unpacked outside its folder"),
    ],
)
def test_what_is_not_a_packed_task_is_refused_in_one_line(
    tmp_path: Path, note: Any, members: list[str], message: str
) -> None:
    file = tmp_path / "task.zip"
    with zipfile.ZipFile(file, "w") as out:
        for name in members:
            out.writestr(name, "")
        if note:
            out.writestr(pack.NOTE, json.dumps(note))
    with pytest.raises(UserError, match=re.escape(message)) as raised:
        pack.read(file, KEY)
    assert str(raised.value).startswith(f"{KEY}: {file}: ")
    assert "\n" not in str(raised.value)


def test_a_packed_task_that_cannot_be_unpacked_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "task.zip"

    def refused(message: str, compression: int = zipfile.ZIP_STORED, **marks: int) -> None:
        with zipfile.ZipFile(file, "w", compression) as out:
            out.writestr(pack.NOTE, json.dumps(NOTE))
        flagged(file, **marks)
        with pytest.raises(UserError, match=message):
            pack.read(file, KEY)

    refused("is encrypted or not compressed with deflate", flag=1)
    refused("is encrypted or not compressed with deflate", compression=zipfile.ZIP_BZIP2)
    refused("not a packed task", version=99)
    file.write_text("nothing")
    with pytest.raises(UserError, match="not a packed task"):
        pack.read(file, KEY)
    monkeypatch.setattr(pack, "LARGEST", 10)
    refused(r"0\.0 GiB unpacked, more than the limit of .* GiB")


def test_a_data_set_that_is_too_large_is_not_packed(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "LARGEST", 1000)
    with pytest.raises(UserError, match=r"shop: 0\.0 GiB unpacked, .*; choose a task with a smaller data set"):
        packed(task="shop", include=str(shop))


def test_a_cron_accepts_only_packed_tasks() -> None:
    connection: Any = SimpleNamespace(get=lambda *_: {"kind": "WorkflowTemplate"})
    text = "{name: a, data: {train: 's3://chats/a.jsonl'}, evaluate: {lm_eval: [{task: arc_easy}]}}"
    with pytest.raises(UserError, match="a scheduled run cannot pack the task arc_easy; 'fineline plan' packs it"):
        schedule(connection, load(text), "0 3 * * *", "UTC")
