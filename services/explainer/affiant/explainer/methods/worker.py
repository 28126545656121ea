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
import traceback
import warnings
from typing import TYPE_CHECKING, BinaryIO

from affiant.explainer.methods.errors import Unexplainable
from affiant.explainer.methods.messages import CannotExplain, Ready, Reply, Request, Warm, Warmed, line, read_request

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
    from affiant.explainer.methods import explain, libraries

    explainer = explain.Explainer()
    _limit_memory(memory_mib)
    _send(replies, Ready(libraries.software(), time.perf_counter() - started))
    for request in sys.stdin.buffer:
        # A C thread that ends the process even while Python does not get to run.
        faulthandler.dump_traceback_later(hard_limit, exit=True)
        _send(replies, _answer(explainer, read_request(request)))
        faulthandler.cancel_dump_traceback_later()


def _answer(explainer: Explainer, request: Request) -> Reply:
    started = time.perf_counter()
    try:
        if isinstance(request, Warm):
            explainer.warm(request.files)
            return Warmed(time.perf_counter() - started)
        return explainer.explain(request)
    except Unexplainable as error:
        return CannotExplain(str(error))
    except MemoryError:
        # What is left of this process cannot be trusted; the service sees it end and starts another.
        raise
    except Exception as error:
        # alibi's and numpy's own errors. With the row's seed they would come again, so another attempt is no use.
        traceback.print_exc(file=sys.stderr)
        return CannotExplain(f"the method failed on this row: {type(error).__name__}: {error}")


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
