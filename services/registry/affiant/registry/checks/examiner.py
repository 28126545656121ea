"""Starting the child process that examines a model, and understanding how it ended."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import structlog

from affiant.common.errors import Unavailable
from affiant.common.events import Check
from affiant.registry.checks.findings import MIB, Examination, Limits, Line, Task
from affiant.registry.domain.manifest import Manifest

log = structlog.get_logger(__name__)

CHILD = (sys.executable, "-I", "-m", "affiant.registry.checks.child")
MAX_ANSWER_BYTES = 8 * MIB
MAX_ERROR_BYTES = 64 * 1024
MAX_DETAIL = 1_500
END_SECONDS = 5.0


@dataclass
class _Heard:
    """What a child wrote until it ended, or until its deadline passed (`late`)."""

    answer: bytearray = field(default_factory=bytearray)
    errors: bytearray = field(default_factory=bytearray)
    late: bool = False


class Examiner:
    """Examines model files, a few at a time, each in a process of its own."""

    def __init__(self, limits: Limits, *, at_once: int = 2, child: Sequence[str] = CHILD) -> None:
        self.limits = limits
        self.child = child
        self._turn = asyncio.Semaphore(at_once)

    async def examine(self, model: Path, background: Path | None, manifest: Manifest) -> Examination:
        """What was found. Takes at most `limits.wall_seconds`; raises `Unavailable` if no child can be started."""
        task = Task(
            model_path=str(model),
            background_path=str(background) if background else None,
            manifest=manifest,
            limits=self.limits,
        )
        async with self._turn:
            process = await self._start()
            try:
                heard = await self._listen(process, msgspec.json.encode(task))
            finally:
                await _end(process)
        return self._understand(heard, process.returncode or 0)

    async def _start(self) -> Process:
        try:
            return await asyncio.create_subprocess_exec(
                *self.child, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=_environment(), start_new_session=True
            )
        except OSError as error:
            raise Unavailable(
                f"no process can be started to examine the model: {error}", hint="Try again in a moment."
            ) from error

    async def _listen(self, process: Process, task: bytes) -> _Heard:
        heard = _Heard()
        deadline = asyncio.timeout(self.limits.wall_seconds)
        with suppress(TimeoutError):
            async with deadline, asyncio.TaskGroup() as group:
                group.create_task(_drain(process.stdout, heard.answer, MAX_ANSWER_BYTES))
                group.create_task(_drain(process.stderr, heard.errors, MAX_ERROR_BYTES))
                group.create_task(_send(process, task))
        heard.late = deadline.expired()
        return heard

    def _understand(self, heard: _Heard, code: int) -> Examination:
        lines = _read(bytes(heard.answer))
        checks = [_printable(line.check) for line in lines if line.check]
        findings = [line.finding for line in lines if line.finding]
        if findings or (checks and not checks[-1].passed):
            return Examination(checks=checks, finding=findings[0] if findings else None)
        told = heard.errors[-2000:].decode("utf-8", "replace")
        log.warning("examination ended early", late=heard.late, code=code, stderr=told)
        return Examination(checks=[*checks, self._ended_early(lines, code, heard.late)])

    def _ended_early(self, lines: list[Line], code: int, late: bool) -> Check:
        begun = [line.begun for line in lines if line.begun]
        if not begun:
            # Before the first check there is nothing of the model: the fault is ours.
            raise Unavailable(
                "the examination could not be started", hint="The registry's log says why; tell an operator."
            )
        return Check(name=begun[-1], passed=False, detail=self._why(code, late))

    def _why(self, code: int, late: bool) -> str:
        if late:
            return f"not done after {self.limits.wall_seconds:g} s; export a smaller or simpler model"
        if code in (-signal.SIGXCPU, -signal.SIGKILL):
            return f"it took more than {self.limits.cpu_seconds} s of computing; export a smaller or simpler model"
        if code >= 0:
            return f"the examination itself failed (exit code {code}); the registry's log says why, tell an operator"
        return (
            f"the process that examined it broke down ({signal.Signals(-code).name}), perhaps because it needs more "
            f"than {self.limits.memory_bytes // MIB} MiB; check that onnxruntime runs this file elsewhere"
        )


def _environment() -> dict[str, str]:
    """Nothing of ours: a model that breaks out of onnxruntime finds no password and no address here."""
    keep = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ") if name in os.environ}
    return {**keep, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


async def _send(process: Process, task: bytes) -> None:
    stdin = process.stdin
    if stdin is None:
        raise RuntimeError("the child has no stdin")
    with suppress(BrokenPipeError, ConnectionResetError):
        stdin.write(task)
        await stdin.drain()
        stdin.close()


async def _drain(stream: asyncio.StreamReader | None, into: bytearray, most: int) -> None:
    """Read to the end, keep the first `most` bytes: a child must not fill our memory."""
    while stream is not None and (chunk := await stream.read(65_536)):
        into += chunk[: most - len(into)]


async def _end(process: Process) -> None:
    """Kill the child with whatever it started, and wait until it is gone."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    rest = bytearray()
    try:
        async with asyncio.timeout(END_SECONDS):
            # asyncio says that a process has ended only once its pipes were read to the end.
            await asyncio.gather(_drain(process.stdout, rest, 0), _drain(process.stderr, rest, 0), process.wait())
    except TimeoutError:
        log.warning("a process that the examination started has escaped", child=process.pid)


def _printable(check: Check) -> Check:
    """A model's names and onnxruntime's messages stand in the details: nothing of them may steer a terminal."""
    detail = "".join(letter if letter.isprintable() else " " for letter in check.detail[:MAX_DETAIL])
    return Check(name=check.name[:40], passed=check.passed, detail=detail)


def _read(answer: bytes) -> list[Line]:
    complete = answer.split(b"\n")[:-1]
    try:
        return [msgspec.json.decode(line, type=Line) for line in complete]
    except msgspec.DecodeError as error:
        raise Unavailable(
            f"the examination gave an answer that cannot be read: {error}", hint="Tell an operator."
        ) from error
