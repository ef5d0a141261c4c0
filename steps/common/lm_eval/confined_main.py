"""The process of a confined task: python -m steps.common.lm_eval.confined_main. Started by `confined_task`."""

import os
import signal
import site
import socket
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from steps.common.lm_eval.confinement import confine
from steps.common.lm_eval.foreign_errors import as_one_line
from steps.common.lm_eval.model_socket import TaskOutcome, TaskSample, TaskSplits, receive, send
from steps.common.lm_eval.pack import PackedRequest
from steps.common.machine.parent_death import signal_on_parent_death

# What libraries read when they are loaded. Nothing of /proc/PID, of /etc as a whole, or of /var/run, which holds tokens.
SYSTEM = (
    "/usr",
    "/lib",
    "/lib64",
    "/bin",
    "/opt/venv",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/mime.types",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/dev/urandom",
    "/dev/random",
    "/dev/zero",
)


class ConfinedOrder(BaseModel):
    """What to run, and where."""

    content: Path  # folder of the unpacked task
    home: Path  # the only folder that can be written
    request: PackedRequest
    chat_template: bool
    data_bytes: int  # memory that it may write to
    only_load: bool  # ask nothing: tell how many rows there are


def main(descriptor: int) -> None:
    """Run one task, and send its outcome."""
    signal_on_parent_death(signal.SIGKILL)
    connection = socket.socket(fileno=descriptor)
    order = ConfinedOrder.model_validate(receive(connection))
    try:
        confine([*_interpreter(), order.content, *map(Path, SYSTEM)], [order.home, Path("/dev/null")], order.data_bytes)
    except OSError as error:
        send(connection, {"refused": str(error)})
        return
    send(connection, {"refused": ""})
    sys.addaudithook(_name_the_network)
    try:
        outcome = _run(connection, order)
    except Exception as error:  # of any type: this is the task's own code, and several libraries
        outcome = TaskOutcome(failure=as_one_line(error))
    send(connection, {"outcome": outcome.model_dump()})


def _interpreter() -> list[Path]:
    """Return Python, its installed packages, and the packages of this program."""
    import presets
    import recipes
    import steps

    own = [Path(folder) for package in (presets, recipes, steps) for folder in package.__path__]
    executable = Path(sys.executable)
    installed = [Path(sys.prefix), Path(sys.base_prefix), executable, executable.resolve()]
    return [*installed, Path(site.getusersitepackages()), *own]


def _run(connection: socket.socket, order: ConfinedOrder) -> TaskOutcome:
    from steps.common.lm_eval.load_tasks import load_tasks
    from steps.common.lm_eval.remote_model import remote_model
    from steps.common.lm_eval.samples import run_samples

    loaded = load_tasks(order.content, order.request)
    if order.only_load:
        return TaskOutcome(splits={name: _splits(task) for name, task in loaded.items()})
    if without_code := _without_code(loaded):
        return TaskOutcome(without_code=without_code)
    model = remote_model(connection)
    samples = run_samples(model, loaded, order.request, chat_template=order.chat_template)
    metrics = dict.fromkeys(metric for sample in samples for metric in sample["metrics"])
    return TaskOutcome(
        samples=[
            TaskSample(filter=s["filter"], values={metric: _number(s.get(metric)) for metric in s["metrics"]})
            for s in samples
        ],
        means=[metric for metric in metrics if all(_is_mean(task, metric) for task in loaded.values())],
    )


def _splits(task: Any) -> TaskSplits:
    config = task.config
    asked = config.test_split or config.validation_split
    used = {config.training_split, config.validation_split, config.test_split, task.fewshot_cfg.split} - {None}
    whole = [split for split in used if split == asked or config.num_fewshot]
    return TaskSplits(rows=len(task.eval_docs), used=sorted(used), whole=sorted(whole))


def _without_code(loaded: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the metrics that lm-eval did not find: it continues without one and fails on the first row."""
    return [
        (name, metric)
        for name, task in loaded.items()
        for metric, found in task._metric_fn_list.items()
        if found is None and not task.config.process_results
    ]


def _is_mean(task: Any, metric: str) -> bool:
    aggregation = task.aggregation().get(metric)
    return getattr(aggregation, "__name__", "") == "mean" and bool(task.higher_is_better().get(metric, True))


def _number(value: Any) -> float | None:
    if hasattr(value, "item") and getattr(value, "size", 0) == 1:  # of numpy
        value = value.item()
    return float(value) if isinstance(value, int | float) else None


def _name_the_network(event: str, _arguments: tuple[Any, ...]) -> None:
    """Say what is missing when a library asks for a network. It is the kernel that refuses; this only words it."""
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.connect"):
        raise OSError("an evaluation has no network")


if __name__ == "__main__":
    main(int(sys.argv[1]))
    sys.stderr.flush()
    os._exit(0)  # without the task's own exit handlers
