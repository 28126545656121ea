"""The process that examines one model: `python -m affiant.registry.checks.child`, a `Task` on stdin.

It limits itself before the first byte of the model is read, and writes `Line`s as it goes: when it is killed, the
service still knows in the middle of which check.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

import msgspec

from affiant.common.events import Check
from affiant.registry.checks.findings import MIB, Line, Task
from affiant.registry.domain.manifest import Unfit

if TYPE_CHECKING:
    from affiant.registry.checks.findings import Limits

T = TypeVar("T")


class Report:
    """Writes each check as it begins and ends; the first that fails ends the examination."""

    def __init__(self, out: IO[bytes], limits: Limits) -> None:
        self.out = out
        self.limits = limits

    def check(self, name: str, step: Callable[[], tuple[T, str]]) -> T:
        """The value of `step`, whose text goes into the report. Exits the process when it raises `Unfit`."""
        self.write(Line(begun=name))
        try:
            value, detail = step()
        except Unfit as reason:
            self.fail(name, str(reason))
        except RecursionError:
            self.fail(name, "the file is nested too deeply; export a simpler graph")
        except MemoryError:
            memory = self.limits.memory_bytes // MIB
            self.fail(name, f"it needs more than the {memory} MiB that an examination may take; export a smaller model")
        self.write(Line(check=Check(name=name, passed=True, detail=detail)))
        return value

    def fail(self, name: str, detail: str) -> None:
        self.write(Line(check=Check(name=name, passed=False, detail=detail)))
        self.out.flush()
        # Not sys.exit: a model's threads may still be busy, and nothing here needs cleaning up.
        os._exit(0)

    def write(self, line: Line) -> None:
        self.out.write(msgspec.json.encode(line) + b"\n")
        self.out.flush()


def limit(limits: Limits) -> None:
    """Take from this process what an examination does not need: memory, time, writing files, core dumps."""
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_seconds, limits.cpu_seconds + 1))
    # The service ends us at its deadline; should the service itself be killed, nobody else would.
    signal.setitimer(signal.ITIMER_REAL, limits.wall_seconds + 2.0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "darwin":  # macOS knows RLIMIT_AS but refuses to set it
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))


def own_stdout() -> IO[bytes]:
    """Our channel to the service. What libraries print goes to stderr and cannot be taken for a finding."""
    channel = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(channel, "wb")


def main() -> None:
    """Examine the task on stdin; the exit code is 0 whether the model passed or failed a check."""
    out = own_stdout()
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    limit(task.limits)
    # One short job: collecting cycles would double the time that a large table takes to read.
    gc.disable()
    # Imported under the limits: from here on everything may be hostile.
    from affiant.registry.checks import examination

    report = Report(out, task.limits)
    background = Path(task.background_path).read_bytes() if task.background_path else None
    finding = examination.examine(Path(task.model_path).read_bytes(), background, task, report.check)
    report.write(Line(finding=finding))
    os._exit(0)


if __name__ == "__main__":
    main()
