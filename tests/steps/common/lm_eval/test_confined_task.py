"""The code of a task that tries to get out gets nothing, in the plan's trial as in an evaluation, and is still run."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from recipes.evaluation import LmEvalTask
from steps.common.lm_eval import confined_main, confined_task, confinement, pack
from steps.common.lm_eval.confined_task import run_confined
from steps.common.lm_eval.model_socket import ModelQuestion, TaskOutcome
from steps.common.model.chat_template import ChatTemplate
from steps.common.runtime.errors import UserError
from steps.evaluate.scores.lm_eval_rows import LmEvalRows, score_lm_eval
from steps.plan.lm_eval import trial
from steps.plan.lm_eval.counting_model import CountingModel
from steps.plan.lm_eval.recipe_tasks import packed_file
from tests.support.hostile_task import write_hostile
from tests.support.lm_eval_tasks import write_shop

SECRET = "s3cret-of-the-step"
WRITTEN = 1_700_000_000  # seconds since 1970
ALLOWED = {"own temporary file": "allowed written", "environment": "none"}


@dataclass
class Surroundings:
    """What a step has around it, and what came of the attacks on it."""

    targets: dict[str, object]
    runs: Path
    connections: list[bytes] = field(default_factory=list)


@pytest.fixture
def around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Surroundings]:
    """Secrets in the environment and in files, a listening port, a local socket, and a volume of other runs."""
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
    token = tmp_path / "var-run-secrets" / "token"
    token.parent.mkdir()
    token.write_text(SECRET)
    runs = tmp_path / "runs"
    runs.mkdir(exist_ok=True)
    (runs / "private").write_text(SECRET)
    (runs / "private").chmod(0o600)
    os.utime(runs / "private", (WRITTEN, WRITTEN))
    port, local = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
    local.bind(str(tmp_path / "local"))
    local.listen()
    found = Surroundings(
        {
            "secrets": [SECRET],
            "port": port.getsockname()[1],
            "unix": str(tmp_path / "local"),
            "token": str(token),
            "runs": str(runs),
        },
        runs,
    )

    def listen() -> None:
        while True:
            try:
                connection, _ = port.accept()
            except OSError:
                return
            found.connections.append(connection.recv(100))

    threading.Thread(target=listen, daemon=True).start()
    yield found
    port.close()
    local.close()


class RecordingModel(CountingModel):
    """Keeps what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def answer(self, question: ModelQuestion) -> Any:
        self.asked += [text for text, _ in question.texts]
        return super().answer(question)


def check_nothing_was_got(around: Surroundings, asked: list[str]) -> None:
    assert asked
    for text in asked:
        got = json.loads(text)
        assert {name: told for name, told in got.items() if not told.startswith("refused")} == ALLOWED
        assert SECRET not in text
    assert around.connections == []
    private = (around.runs / "private").stat()
    assert (private.st_mode & 0o777, private.st_mtime) == (0o600, WRITTEN)
    assert sorted(path.name for path in around.runs.iterdir() if path.name != "data") == ["private"]


def packed(tmp_path: Path, around: Surroundings, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[str]]:
    """Pack the hostile task as `plan` does, and return the file, and what the model of the trial was asked."""
    made: list[RecordingModel] = []

    def recording() -> RecordingModel:
        made.append(RecordingModel())
        return made[-1]

    monkeypatch.setattr(trial, "CountingModel", recording)
    folder = write_hostile(tmp_path / "tasks", around.targets)
    file = packed_file("evaluate.lm_eval.0", LmEvalTask(task="hostile", include=str(folder)))
    return Path(file.path), made[0].asked


def test_a_hostile_task_gets_nothing_in_the_trial_and_nothing_in_the_evaluation(
    around: Surroundings, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from steps.evaluate.scores.answering_model import AnsweringModel

    file, asked = packed(tmp_path, around, monkeypatch)
    check_nothing_was_got(around, asked)
    model, tokenizer = (kind.from_pretrained(tiny_model) for kind in (AutoModelForCausalLM, AutoTokenizer))
    heard: list[str] = []
    answer = AnsweringModel.answer

    def heard_and_answered(self: AnsweringModel, question: ModelQuestion) -> Any:
        heard.extend(text for text, _ in question.texts)
        return answer(self, question)

    monkeypatch.setattr(AnsweringModel, "answer", heard_and_answered)
    rows = LmEvalRows(LmEvalTask(task="hostile"), file, "", pack.read(file, "evaluate.lm_eval.0"))
    (values,) = score_lm_eval(model.eval(), ChatTemplate(tokenizer), [rows], "base")
    assert len(values) == 2
    check_nothing_was_got(around, heard)


def run(shop: Path, code: str, tmp_path: Path) -> TaskOutcome:
    """Run the shop's task with a function of that code as its target, without packing it."""
    import shutil

    content = tmp_path / "content"
    (content / pack.DEFINITIONS).mkdir(parents=True)
    (content / pack.ROWS / "shop").mkdir(parents=True)
    (content / pack.DEFINITIONS / "own.py").write_text(code)
    text = (shop / "shop.yaml").read_text().replace("doc_to_target: right", "doc_to_target: !function own.right")
    (content / pack.DEFINITIONS / "shop.yaml").write_text(text)
    from datasets import Dataset

    rows = [json.loads(line) for line in (shop / "rows.jsonl").read_text().splitlines()]
    Dataset.from_list(rows).to_parquet(str(content / pack.ROWS / "shop" / "test.parquet"))
    request = pack.PackedRequest(
        wanted={}, rows={"shop": [0, 1]}, num_fewshot=0, chat_template=False, metric="acc", filter="none",
        read_tokens=0, written_tokens=0,
    )  # fmt: skip
    try:
        return run_confined(content, request, CountingModel(), chat_template=False, where="the task")
    finally:
        shutil.rmtree(content)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return write_shop(tmp_path / "tasks")


def test_a_process_that_dies_or_lies_is_one_line(shop: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the task: its process ended with exit code 7: gone") as told:
        run(
            shop,
            "import os, sys\ndef right(doc):\n    print('gone', file=sys.stderr, flush=True)\n    os._exit(7)\n",
            tmp_path,
        )
    assert "\n" not in str(told.value)
    shout = "import os, sys\ndef right(doc):\n    number = int(sys.argv[1])\n    os.write(number, {})\n    return 0\n"
    for sent in ("(1 << 62).to_bytes(8, 'big')", "(3).to_bytes(8, 'big') + b'{}x'", "(2).to_bytes(8, 'big') + b'{}'"):
        with pytest.raises(UserError, match="the task: its process sent what is not a question to a model: "):
            run(shop, shout.format(sent), tmp_path)


def test_a_setting_that_names_code_is_not_passed_to_the_model(shop: Path, tmp_path: Path) -> None:
    code = (
        "import json, os, struct, sys\ndef right(doc):\n"
        "    question = {'kind': 'generate_until', 'texts': [['a', '']], 'settings': [{'custom_generate': 'me/evil'}]}\n"
        "    body = json.dumps({'question': question}).encode()\n"
        "    os.write(int(sys.argv[1]), struct.pack('!Q', len(body)) + body)\n"
        "    return 0\n"
    )
    with pytest.raises(UserError, match="generates its answers with 'custom_generate', which is not supported"):
        run(shop, code, tmp_path)


def test_a_system_that_cannot_confine_runs_no_code(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "without"
    package.mkdir()
    (package / "sitecustomize.py").write_text(
        "import platform\nplatform.machine = lambda: 'riscv64'\n"  # a processor whose system calls have other numbers
    )
    monkeypatch.setenv("PYTHONPATH", f"{package}:{os.environ.get('PYTHONPATH', '')}")
    planted = tmp_path / "planted"
    with pytest.raises(UserError, match=r"its code is not run, since it cannot be confined here: .* type riscv64"):
        run(shop, f"open({str(planted)!r}, 'w')\ndef right(doc):\n    return 0\n", tmp_path)
    assert not planted.exists()


def test_a_task_that_takes_too_much_memory_fails_in_one_line(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "def right(doc):\n    taken = bytearray(3 << 30)\n    return 0\n"
    assert run(shop, code, tmp_path).failure == ""
    monkeypatch.setattr(confined_task, "data_bytes", lambda: 2 << 30)
    assert "MemoryError" in run(shop, code, tmp_path).failure


def test_a_task_may_map_its_rows_though_no_file_changes_its_mode(shop: Path, tmp_path: Path) -> None:
    code = (
        "import os\nfrom datasets import load_dataset\ndef right(doc):\n"
        "    path = os.environ['HOME'] + '/more.jsonl'\n"
        "    open(path, 'w').write('{\"a\": 1}')\n"
        "    rows = load_dataset('json', data_files=path, split='train').map(lambda row: {'b': row['a'] + 1})\n"
        "    assert rows.cache_files and rows[0]['b'] == 2\n"
        "    return 0\n"
    )
    assert run(shop, code, tmp_path).failure == ""


def test_every_refused_call_has_a_number_on_both_processors() -> None:
    for table in (confinement.REFUSED, confinement.WITHOUT_EFFECT, confinement.ONLY_OWN):
        assert table["x86_64"].keys() == table["aarch64"].keys()
    assert "/proc" not in confined_main.SYSTEM
    assert "/etc" not in confined_main.SYSTEM
