"""A backup on its way between a step and the command: whole and in its place, or one line and nothing left."""

import errno
import io
import os
import shutil
import socket
import tarfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import pipelines.cluster.argo_server
from pipelines.cluster.transfer import listening_pod, namespace_backup
from pipelines.command import main
from steps.backup import create, stream
from steps.backup.backup_target import BackupTarget, FolderTarget, StreamTarget
from steps.backup.saved import FILE, Backup, read_backup
from steps.backup.steady_read import SteadyContent, read_steadily
from steps.backup.step import STAGING, BackupInput, backup
from steps.backup.stream import unpack
from steps.common.port_forward import token_listener
from steps.common.port_forward.parts import PART
from steps.common.port_forward.pod_conversation import PodConversation
from steps.common.registry import tracking, versions
from steps.common.runtime.errors import INTERRUPTED, UserError
from steps.common.storage import volumes
from tests.support.commands import free_port
from tests.support.golden import register_golden

TOKEN = "a token"
LARGE = os.urandom(2 * PART + 1000)  # of a file: several parts


@dataclass
class Namespace:
    """A step that runs in a thread in place of a run's pod, and the volume that it has mounted."""

    port: int
    failed: list[str] = field(default_factory=list)  # of the steps, in order

    def talk_to_pod(
        self,
        _connection: Any,
        _template: str,
        parameters: dict[str, str],
        errand: listening_pod.Errand,
        talk: Callable[[PodConversation], Any],
    ) -> Any:
        given = {"size": "0", **parameters, "token_sha256": token_listener.digest_of_token(TOKEN)}
        thread = threading.Thread(target=self._step, args=[BackupInput.model_validate(given)], daemon=True)
        thread.start()
        try:
            with self._connect() as connection:
                conversation = PodConversation(connection)
                conversation.tell(TOKEN)
                assert conversation.hear() == token_listener.SEND
                return talk(conversation)
        finally:
            thread.join(60)

    def _step(self, given: BackupInput) -> None:
        try:
            backup(given)
        except Exception as error:
            self.failed.append(str(error))

    def _connect(self) -> socket.socket:
        for _ in range(100):
            try:
                return socket.create_connection(("127.0.0.1", self.port), timeout=60)
            except ConnectionRefusedError:
                time.sleep(0.05)
        raise AssertionError("nobody listens")


@pytest.fixture
def namespace(monkeypatch: pytest.MonkeyPatch) -> Namespace:
    """A registry with a model whose version 1 is the champion, and a runs volume with a large file."""
    found = Namespace(free_port())
    monkeypatch.setattr(token_listener.listen_once, "__defaults__", (found.port,))
    monkeypatch.setattr(namespace_backup, "talk_to_pod", found.talk_to_pod)
    monkeypatch.setattr(pipelines.cluster.argo_server, "connect", lambda *_: None)
    register_golden("tiny", tags={versions.CHAMPION_SINCE: "1"})
    tracking.client(tracking.default_uri()).set_registered_model_alias("tiny", versions.CHAMPION, "1")
    file = volumes.sent_data("5" * 64) / "rows.jsonl"
    file.parent.mkdir(parents=True)
    file.write_bytes(LARGE)
    return found


def empty(monkeypatch: pytest.MonkeyPatch, runs: Path) -> None:
    """Go on with an empty volume and registry, as in a new namespace."""
    runs.mkdir()
    monkeypatch.setenv(volumes.RUNS_SETTING, str(runs))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # which MLflow's own functions set


def the_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the error, which is one line."""
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("fineline: ")]
    return line


def nothing_is_left(folder: Path) -> bool:
    """Tell that there is no backup, no part of one, and no staging."""
    return not [*folder.parent.glob(f"{folder.name}*"), *volumes.runs().glob(f"{STAGING}*")]


def test_a_namespace_is_saved_and_a_new_one_gets_it(
    namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "backup"
    assert main(["backup", "create", str(folder), "-n", "space"]) == 0
    assert capsys.readouterr().out == f"models: 1, versions: 1, files: 8; saved in {folder}\n"
    assert read_backup(folder).models[0].aliases == {"champion": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "runs"]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert main(["backup", "create", str(folder), "-n", "space"]) == 2
    assert "exists; name a new folder" in the_line(capsys)

    empty(monkeypatch, tmp_path / "new")
    assert main(["backup", "restore", str(folder), "-n", "space"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"models: 1, versions: 1, files: 8; restored from {folder}",
        "tiny: version 1 was the champion; to serve it: fineline rollback tiny --version 1 -n space",
    ]
    assert (volumes.sent_data("5" * 64) / "rows.jsonl").read_bytes() == LARGE
    assert list(volumes.runs().glob(f"{STAGING}*")) == []
    assert main(["backup", "restore", str(folder), "-n", "space"]) == 0  # it is all there
    assert namespace.failed == []


def test_what_the_registry_has_otherwise_is_refused_before_the_rest_is_sent(
    namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "backup"
    assert main(["backup", "create", str(folder), "-n", "space"]) == 0
    empty(monkeypatch, tmp_path / "new")
    for _ in range(2):
        register_golden("tiny")
    sent: list[int] = []
    monkeypatch.setattr(stream, "read_steadily", noting(read_steadily, sent))
    assert main(["backup", "restore", str(folder), "-n", "space"]) == 2
    line = "tiny: the registry has other versions of it; restore into a registry without this model"
    assert line in the_line(capsys)
    assert namespace.failed == [line]
    assert not (volumes.runs() / "data").exists()
    assert sum(sent) < len(LARGE)
    assert list(volumes.runs().glob(f"{STAGING}*")) == []


def noting(read: Callable[..., str], sent: list[int]) -> Callable[..., str]:
    def reading(path: Path, write: Callable[[SteadyContent], None]) -> str:
        found = read(path, write)
        sent.append(path.stat().st_size)
        return found

    return reading


@pytest.mark.parametrize("change", ["flipped", "missing", "no list", "not there"])
def test_a_folder_that_is_no_whole_backup_is_refused_before_the_cluster_is_asked(
    change: str, tmp_path: Path, namespace: Namespace, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "backup"
    assert main(["backup", "create", str(folder)]) == 0
    file = next((folder / "volume").rglob("rows.jsonl"))
    if change == "flipped":
        file.write_bytes(bytes([LARGE[0] ^ 1]) + LARGE[1:])
    elif change == "missing":
        file.unlink()
    elif change == "no list":
        (folder / FILE).write_text("{}")
    else:
        shutil.rmtree(folder)
    assert main(["backup", "restore", str(folder), "-n", "space"]) == 2
    told = {
        "flipped": "missing or changed since the backup was made",
        "missing": "missing or changed since the backup was made",
        "no list": "not a backup: models: Field required",
        "not there": "give the folder that 'fineline backup create' wrote",
    }
    assert told[change] in the_line(capsys)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("../outside", "lies outside the backup"),
        ("/etc/passwd", "lies outside the backup"),
        ("volume//runs/x", "lies outside the backup"),
        ("volume/data/./x", "lies outside the backup"),
        ("volume/../../outside", "lies outside the backup"),
        ("volume/serving/tiny/server.json", "lies outside the backup"),
        ("volume/mlflow.db", "lies outside the backup"),
    ],
)
def test_a_list_that_names_what_lies_elsewhere_is_refused(name: str, told: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(Backup(models=[], files={name: "0" * 64}).model_dump_json())
    with pytest.raises(UserError, match=told):
        read_backup(tmp_path)


@pytest.mark.parametrize("name", ["../../etc", "/etc", "a/b", "..", "/", ""])
def test_a_model_whose_folder_lies_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    """Its files would be read from there, and go to the registry."""
    model = {"name": name, "tags": {}, "aliases": {}, "versions": [], "runs": []}
    (tmp_path / FILE).write_text(Backup.model_validate({"models": [model], "files": {}}).model_dump_json())
    with pytest.raises(UserError, match="lies outside the backup"):
        read_backup(tmp_path)


def member(name: str, **changes: Any) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    for key, value in changes.items():
        setattr(found, key, value)
    return found


class Archive:
    """An archive that arrives."""

    def __init__(self, *members: tarfile.TarInfo) -> None:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            archive.addfile(text := member(FILE, size=len(EMPTY)), io.BytesIO(EMPTY))
            assert text.isreg()
            for one in members:
                archive.addfile(one, io.BytesIO(b"x" * one.size))
        self.data = out.getvalue()
        self._file = io.BytesIO(self.data)
        self.read = self._file.read

    def finish(self) -> None:
        """Do nothing: this is all of it."""


EMPTY = Backup(models=[], files={}).model_dump_json().encode()


@pytest.mark.parametrize(
    ("hostile", "told"),
    [
        (member("../outside", size=1), "'../outside' would be written outside of the backup"),
        (member("volume/../../outside", size=1), "would be written outside of the backup"),
        (member("/outside", size=1), "'/outside' would be written outside of the backup"),
        (member("volume/link", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "'volume/link' is not a plain file"),
        (member("volume/link", type=tarfile.LNKTYPE, linkname=FILE), "'volume/link' is not a plain file"),
        (member("volume/null", type=tarfile.CHRTYPE), "'volume/null' is not a plain file"),
    ],
)
def test_an_archive_that_leads_outside_of_the_folder_is_refused(
    hostile: tarfile.TarInfo, told: str, tmp_path: Path
) -> None:
    folder = tmp_path / "one" / "backup"
    folder.mkdir(parents=True)
    with pytest.raises(UserError, match=told) as raised:
        unpack(Archive(hostile), folder)
    assert "\n" not in str(raised.value)
    found = {path.name for path in tmp_path.rglob("*") if folder not in path.parents}
    assert found == {"one", "backup"}
    assert not Path("/outside").exists()


def test_what_the_list_does_not_name_is_dropped(tmp_path: Path) -> None:
    assert unpack(Archive(member("volume/data/more", size=1)), tmp_path).files == {}
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / FILE]


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    garbage = Archive()
    garbage.read = io.BytesIO(b"garbage" * 1000).read
    with pytest.raises(UserError, match="what arrived is not a backup"):
        unpack(garbage, tmp_path)


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a file")


def test_a_full_disk_of_the_command_leaves_nothing_and_the_step_says_so(
    namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "backup"
    monkeypatch.setattr(stream, "_write", full)
    assert main(["backup", "create", str(folder), "-n", "space"]) == 2
    line = f"{folder}: no space left on the disk; free some space and run it again; nothing of it is kept"
    assert the_line(capsys) == f"fineline: {line}"
    assert namespace.failed == [line]
    assert nothing_is_left(folder)


def test_a_full_runs_volume_leaves_nothing_and_the_command_says_so(
    namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "backup"
    assert main(["backup", "create", str(folder), "-n", "space"]) == 0
    capsys.readouterr()
    empty(monkeypatch, tmp_path / "new")
    with monkeypatch.context() as patch:
        patch.setattr(stream, "_write", full)
        assert main(["backup", "restore", str(folder), "-n", "space"]) == 2
    assert "no space left on the disk; free some space and run it again; nothing of the backup is kept" in the_line(
        capsys
    )
    assert [path.name for path in volumes.runs().iterdir() if path.name != "mlflow.db"] == []
    free = shutil.disk_usage(tmp_path)._replace(free=PART)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    for place in (["-n", "space"], []):
        assert main(["backup", "restore", str(folder), *place]) == 2
        assert "GB are to be restored, and 0.00 GB are free" in the_line(capsys)
        assert not (volumes.runs() / "data").exists()


@pytest.mark.parametrize("failing", ["create", "restore"])
def test_a_full_disk_on_one_machine_is_one_line_and_leaves_nothing_half_written(
    failing: str,
    namespace: Namespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "backup"
    if failing == "create":
        monkeypatch.setattr(FolderTarget, "add", full)
    else:
        assert main(["backup", "create", str(folder)]) == 0
        capsys.readouterr()
        empty(monkeypatch, tmp_path / "new")
        monkeypatch.setattr(shutil, "copyfile", half)
    assert main(["backup", failing, str(folder)]) == 2
    assert "no space left on the disk; free some space and run it again" in the_line(capsys)
    if failing == "create":
        assert nothing_is_left(folder)
    else:
        assert list((volumes.runs() / "data").rglob("*.partial")) == []


def half(_source: Path, target: Path) -> None:
    target.write_bytes(b"half")
    full()


@pytest.mark.parametrize("moment", ["before the end", "after the end"])
def test_a_connection_that_breaks_off_leaves_nothing(
    moment: str, namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its end there is no backup; a step that is not told that it arrived has failed, for the person who looks there."""
    folder = tmp_path / "backup"
    step_ends = {"before the end": 1, "after the end": 10**6}[moment]

    def talk(connection: Any, template: str, parameters: dict[str, str], errand: Any, talk: Any) -> Any:
        def briefly(conversation: PodConversation) -> Any:
            heard = iter(range(step_ends))
            hear = conversation.hear

            def hearing() -> str:
                if next(heard, None) is None:
                    conversation._connection.shutdown(socket.SHUT_RDWR)
                return hear()

            conversation.hear = hearing  # type: ignore[method-assign]
            if moment == "after the end":
                conversation.tell = dropping(conversation)  # type: ignore[method-assign]
            return talk(conversation)

        return namespace.talk_to_pod(connection, template, parameters, errand, briefly)

    monkeypatch.setattr(namespace_backup, "talk_to_pod", talk)
    if moment == "before the end":
        with pytest.raises(ConnectionError):
            namespace_backup.fetch_backup(None, folder)  # type: ignore[arg-type]
        assert nothing_is_left(folder)
    else:
        namespace_backup.fetch_backup(None, folder)  # type: ignore[arg-type]
        read_backup(folder)
    (line,) = namespace.failed
    assert line.startswith("the connection broke off: ")


def dropping(conversation: PodConversation) -> Callable[..., None]:
    tell = conversation.tell

    def telling(line: str, data: bytes = b"") -> None:
        if line == "received":
            conversation._connection.shutdown(socket.SHUT_RDWR)
        tell(line, data)

    return telling


class Growing:
    """Changes a file while it is read."""

    def __init__(self, path: Path, times: int, *, by: bytes) -> None:
        self.path, self.times, self.by = path, times, by
        self.read: list[bytes] = []

    def __call__(self, content: SteadyContent) -> None:
        found = content.read(1)
        if len(self.read) < self.times:
            self.path.write_bytes(self.path.read_bytes() + self.by if self.by else b"")
            os.utime(self.path, (len(self.read), len(self.read)))
        self.read.append(found + content.read())


def test_a_file_that_changes_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"first")
    grows = Growing(path, 1, by=b" second")
    read_steadily(path, grows)
    assert grows.read == [b"first", b"first second"]
    always = Growing(path, 9, by=b" more")
    read_steadily(path, always)  # a log: its beginning is as good
    assert len(always.read) == 3
    path.write_bytes(b"f" * 100_000)
    emptied = Growing(path, 1, by=b"")
    read_steadily(path, emptied)
    first, second = emptied.read
    assert (len(first), second) == (100_000, b"")  # of the announced size


@pytest.mark.parametrize("kind", ["folder", "stream"])
def test_of_a_file_that_was_read_again_the_last_reading_is_kept(kind: str, tmp_path: Path) -> None:
    path, folder, out = tmp_path / "log.txt", tmp_path / "backup", io.BytesIO()
    path.write_bytes(b"first")
    target: BackupTarget = FolderTarget(folder) if kind == "folder" else StreamTarget(out)
    more = [b" and more"]

    def write(content: SteadyContent) -> None:
        target.add("volume/data/log.txt", content)
        while more:
            path.write_bytes(path.read_bytes() + more.pop())

    sha256 = read_steadily(path, write)
    found = Backup(models=[], files={"volume/data/log.txt": sha256})
    target.add_text(FILE, found.model_dump_json())
    if isinstance(target, StreamTarget):
        target.__exit__(None)
        folder.mkdir()
        archive = Archive()
        archive.read = io.BytesIO(out.getvalue()).read
        unpack(archive, folder)
    assert read_backup(folder) == found
    assert (folder / "volume/data/log.txt").read_bytes() == b"first and more"


def test_a_backup_beside_runs_has_what_was_there_at_its_beginning(
    namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first version is saved, another becomes the champion, files come and go, and a run logs on."""
    store = tracking.client(tracking.default_uri())
    running = store.create_run(tracking.experiment(store, "tiny"), run_name="at work")
    store.log_metric(running.info.run_id, "loss", 1.0, step=0)
    gone, late = volumes.run_folder("tiny-1") / "purchase.json", volumes.run_folder("tiny-2") / "purchase.json"
    gone.parent.mkdir(parents=True)
    gone.write_text("{}")
    save = create._save_version

    def meanwhile(*arguments: Any) -> Any:
        assert register_golden("tiny") == 2
        store.set_registered_model_alias("tiny", versions.CHAMPION, "2")
        store.log_metric(running.info.run_id, "loss", 0.5, step=1)
        shutil.rmtree(gone.parent)
        late.parent.mkdir()
        late.write_text("{}")
        return save(*arguments)

    monkeypatch.setattr(create, "_save_version", meanwhile)
    folder = tmp_path / "backup"
    assert main(["backup", "create", str(folder)]) == 0
    (model,) = read_backup(folder).models
    assert [version.number for version in model.versions] == [1]
    assert model.aliases == {"champion": 1}
    assert {path.name for path in (folder / "volume").iterdir()} == {"data"}

    empty(monkeypatch, tmp_path / "new")
    assert main(["backup", "restore", str(folder)]) == 0
    fresh = tracking.client(tracking.default_uri())
    (run,) = fresh.search_runs([tracking.experiment(fresh, "tiny")], "attributes.run_name = 'at work'")
    assert run.info.status == "KILLED"  # nothing here will end it
    assert run.info.end_time


@pytest.mark.parametrize("place", [[], ["-n", "space"]], ids=["here", "of a namespace"])
def test_a_registry_that_does_not_answer_is_nobodys_mistake(
    place: list[str],
    namespace: Namespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    folder = tmp_path / "backup"
    assert main(["backup", "create", str(folder), *place]) == INTERRUPTED
    assert "the registry http://127.0.0.1:9 did not answer" in the_line(capsys)
    assert nothing_is_left(folder)


@pytest.mark.parametrize("place", [[], ["-n", "space"]], ids=["here", "of a namespace"])
def test_a_file_that_is_deleted_between_two_readings_is_left_out(
    place: list[str], namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deleting(path: Path, write: Callable[[SteadyContent], None]) -> str:
        def and_delete(content: SteadyContent) -> None:
            write(content)
            path.write_bytes(LARGE + b"more")
            path.unlink()

        return read_steadily(path, and_delete if path.name == "rows.jsonl" else write)

    monkeypatch.setattr(create, "read_steadily", deleting)
    folder = tmp_path / "backup"
    assert main(["backup", "create", str(folder), *place]) == 0
    assert "rows.jsonl" not in "".join(read_backup(folder).files)
    assert not list(folder.rglob("rows.jsonl"))


def test_a_version_that_is_deleted_meanwhile_is_left_out(
    namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_golden("tiny")
    listed = create._listed

    def deleting(store: Any, model: Any) -> Any:
        found = listed(store, model)
        store.delete_model_version("tiny", "1")
        return found

    monkeypatch.setattr(create, "_listed", deleting)
    folder = tmp_path / "backup"
    assert main(["backup", "create", str(folder)]) == 0
    (model,) = read_backup(folder).models
    assert [version.number for version in model.versions] == [2]
    assert model.aliases == {}
