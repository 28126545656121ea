"""The service's side of a worker: start it, ask it one thing at a time, kill it when it takes too long."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import structlog
from prometheus_client import Counter

from affiant.explainer.methods.errors import WorkerLost
from affiant.explainer.methods.messages import (
    Answered,
    Batch,
    Beat,
    CannotExplain,
    Explain,
    Explained,
    ModelFiles,
    Overview,
    Ready,
    Reply,
    Request,
    Survey,
    Warm,
    line,
    read_reply,
)

log = structlog.get_logger(__name__)

START_SECONDS = 120.0
"""For the imports: three seconds on a quiet machine with compiled bytecode, many times that on a cold or busy one."""

LOAD_SECONDS = 120.0
"""For a version that a worker has not loaded yet: what its SHAP values need may have to be compiled, which takes
seconds of processor time that a busy machine has not."""

GRACE_SECONDS = 2.0
"""A worker gives up a row at its deadline by itself. One that does not is stuck, in a call of the model perhaps."""

LINE_BYTES = 16 * 2**20
LIBRARIES = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "NUMBA")
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in LIBRARIES}

_lost = Counter("affiant_explainer_workers_lost_total", "Worker processes that died or had to be killed")


class Worker:
    """One worker process, started when it is first needed and again after it was lost."""

    def __init__(self, number: int, run_seconds: float, memory_mib: int) -> None:
        self.number = number
        self.software: Mapping[str, str] = {}
        self.warm: set[str] = set()
        self._run_seconds = run_seconds
        self._memory_mib = memory_mib
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return None if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start the process where none runs, and wait until it has imported. Raises `WorkerLost`."""
        if self.running:
            return
        await self.stop()
        self._process = await self._spawn()
        reply = await self._reply(START_SECONDS)
        if not isinstance(reply, Ready):
            raise WorkerLost(f"the worker began with {type(reply).__name__}")
        self.software = reply.software
        log.info("worker ready", worker=self.number, pid=self.pid, seconds=round(reply.seconds, 2))

    async def preload(self, files: ModelFiles) -> str:
        """Load a version. Returns why that is impossible, or nothing. Raises `WorkerLost`."""
        reply = await self._ask(Warm(files))
        self.warm.add(files.spec.digest)
        return reply.reason if isinstance(reply, CannotExplain) else ""

    async def explain_all(self, batch: Batch, answered: Callable[[Answered], Awaitable[None]]) -> None:
        """Have a batch explained; `answered` is called for each row as it ends.

        Raises `WorkerLost`, also when the worker takes `run_seconds` for one step on the way, or has not given up a
        row `GRACE_SECONDS` after its deadline. Rows that were not answered then have no explanation yet.
        """
        until = {at: time.monotonic() + row.left_seconds for at, row in enumerate(batch.rows)}
        if batch.files.spec.digest not in self.warm:
            batch = await self._loaded_for(batch)
        await self._send(batch)
        while until:
            left = min(until.values()) + GRACE_SECONDS - time.monotonic()
            reply = await self._reply(min(self._run_seconds, max(left, GRACE_SECONDS)))
            if isinstance(reply, Answered):
                until.pop(reply.at, None)
                await self._unless_cancelled(answered(reply))
            elif not isinstance(reply, Beat):
                raise await self._lost(f"it answered a batch with {type(reply).__name__}")

    async def _loaded_for(self, batch: Batch) -> Batch:
        """Load the version first, which may take longer than a row may; it takes from the time that the rows have."""
        started = time.monotonic()
        await self.preload(batch.files)
        spent = time.monotonic() - started
        rows = [msgspec.structs.replace(row, left_seconds=max(0.0, row.left_seconds - spent)) for row in batch.rows]
        return Batch(batch.files, rows)

    async def explain(self, job: Explain) -> Explained | CannotExplain:
        """One row alone: the explanation, or why there is none. Raises `WorkerLost`."""
        found: list[Answered] = []

        async def answered(reply: Answered) -> None:
            found.append(reply)

        await self.explain_all(job.batch(), answered)
        return found[0].answer

    async def survey(self, question: Survey) -> Overview | CannotExplain:
        """A version explained as a whole, or why that is impossible. Raises `WorkerLost`."""
        await self._send(question)
        while True:
            # The first survey of a worker imports alibi and may load the version.
            reply = await self._reply(max(LOAD_SECONDS, self._run_seconds))
            if isinstance(reply, Overview | CannotExplain):
                self.warm.add(question.files.spec.digest)
                return reply
            if not isinstance(reply, Beat):
                raise await self._lost(f"it answered a survey with {type(reply).__name__}")

    async def _unless_cancelled(self, doing: Awaitable[None]) -> None:
        try:
            await doing
        except BaseException:
            # Answers that are still to come must not be taken for answers to the next question.
            await self.stop()
            raise

    async def stop(self) -> None:
        """End the process and wait until it is gone."""
        process, self._process = self._process, None
        self.warm.clear()
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()

    async def _spawn(self) -> asyncio.subprocess.Process:
        # The service has its own limit; the worker's is for the case that nobody is left to hold it.
        arguments = [str(os.getpid()), str(max(LOAD_SECONDS, self._run_seconds) * 2), str(self._memory_mib)]
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "affiant.explainer.methods.worker",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **ONE_THREAD},
            limit=LINE_BYTES,
        )

    async def _ask(self, request: Request) -> Reply:
        await self._send(request)
        return await self._reply(max(LOAD_SECONDS, self._run_seconds))

    async def _send(self, request: Request) -> None:
        await self.start()
        process = self._process
        if process is None or process.stdin is None:
            raise WorkerLost("the worker did not start")
        try:
            process.stdin.write(line(request))
            await process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            raise await self._lost("it had died before it was asked") from None

    async def _reply(self, seconds: float) -> Reply:
        process = self._process
        if process is None or process.stdout is None:
            raise WorkerLost("the worker was stopped")
        started = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                answer = await process.stdout.readline()
        except TimeoutError:
            raise await self._lost(f"it was killed after {seconds:g} seconds without an answer") from None
        except ValueError as error:  # a line longer than LINE_BYTES
            raise await self._lost(f"its answer has no end: {error}") from error
        except asyncio.CancelledError:
            # The answer that is still to come must not be taken for the answer to the next question.
            await self.stop()
            raise
        if not answer.endswith(b"\n"):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), 5.0)
            spent = time.monotonic() - started
            raise await self._lost(f"it ended after {spent:.1f} seconds with {_ending(process.returncode)}")
        return _read(answer)

    async def _lost(self, how: str) -> WorkerLost:
        _lost.inc()
        log.warning("worker lost", worker=self.number, pid=self.pid, how=how)
        await self.stop()
        return WorkerLost(f"the worker process was lost: {how}")


def _read(answer: bytes) -> Reply:
    try:
        reply: Reply = read_reply(answer)
    except msgspec.DecodeError as error:
        raise WorkerLost(f"the worker's answer is not understood: {error}") from error
    return reply


def _ending(code: int | None) -> str:
    if code is None:
        return "its output closed"
    return f"signal {-code}" if code < 0 else f"exit code {code}"
