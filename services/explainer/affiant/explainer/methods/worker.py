"""The worker process: reads requests from standard input, answers on what was standard output, one line each.

`python -m affiant.explainer.methods.worker <pid of the service> <hard limit in seconds> <memory in MiB>`

One job at a time on one thread. The service kills a worker that takes too long; for the case that the service itself
is gone, a worker ends when its input ends, when its parent dies, and, whatever it is doing, at the hard limit.
"""

from __future__ import annotations

import ctypes
import faulthandler
import logging
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from affiant.explainer.methods.errors import Unexplainable
from affiant.explainer.methods.messages import (
    CannotExplain,
    Ready,
    Reply,
    Request,
    Survey,
    Warm,
    Warmed,
    line,
    read_request,
)

if TYPE_CHECKING:
    from affiant.explainer.methods.explain import Explainer

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Import, say so, then answer until the input ends."""
    parent, hard_limit, memory_mib = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    _die_with(parent)
    replies = _claim_stdout()
    _quiet()
    started = time.perf_counter()
    # Here and not above: what the imports print must not reach the pipe.
    from affiant.explainer.methods import explain, loops, software

    loops.compile_loops()
    explainer = explain.Explainer()
    _limit_memory(memory_mib)
    _send(replies, Ready(software.software(), time.perf_counter() - started))
    for request in sys.stdin.buffer:
        for reply in _watched(_answers(explainer, read_request(request)), hard_limit):
            _send(replies, reply)


def _watched(answers: Iterator[Reply], hard_limit: float) -> Iterator[Reply]:
    """The answers, each given `hard_limit` seconds.

    A C thread ends the process then, even while Python does not get to run.
    """
    try:
        while True:
            faulthandler.dump_traceback_later(hard_limit, exit=True)
            reply = next(answers, None)
            faulthandler.cancel_dump_traceback_later()
            if reply is None:
                return
            yield reply
    finally:
        faulthandler.cancel_dump_traceback_later()


def _answers(explainer: Explainer, request: Request) -> Iterator[Reply]:
    if isinstance(request, Warm):
        yield _warmed(explainer, request)
    elif isinstance(request, Survey):
        yield from _surveyed(explainer, request)
    else:
        yield from explainer.explain_all(request)


def _warmed(explainer: Explainer, request: Warm) -> Reply:
    started = time.perf_counter()
    try:
        explainer.warm(request.files)
    except Unexplainable as error:
        return CannotExplain(str(error))
    return Warmed(time.perf_counter() - started)


def _surveyed(explainer: Explainer, request: Survey) -> Iterator[Reply]:
    # alibi itself is needed for this: about three seconds at the first survey of a worker.
    from affiant.explainer.methods.overview import overview

    try:
        yield from overview(explainer.warm(request.files), request.seed)
    except Unexplainable as error:
        yield CannotExplain(str(error))


def _send(replies: BinaryIO, reply: Reply) -> None:
    replies.write(line(reply))
    replies.flush()


def _claim_stdout() -> BinaryIO:
    """Keep standard output for replies, and let whatever a library prints go to standard error."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return replies


def _die_with(parent: int) -> None:
    """Ask the kernel (Linux) to end this process with its parent, so that a killed service leaves nothing behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the service is gone")


def _limit_memory(mib: int) -> None:
    """A model may ask for any amount of memory: let the allocation fail here instead of the machine's memory end."""
    if mib and sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (mib * 2**20, mib * 2**20))


def _quiet() -> None:
    """What alibi warns of stands in the explanation's own warnings."""
    warnings.filterwarnings("ignore")
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the service, which ends its workers in order


if __name__ == "__main__":
    main()
