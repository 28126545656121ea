"""`python -I -S guard.py <parent's pid> <program> <arguments…>`: becomes that program, and ends with its parent.

Linux sends SIGKILL to it when the thread that started it is gone, even if that died by SIGKILL itself; so a killed
`affiant up` leaves no service behind. Killed is what services must bear at any moment anyway. Elsewhere than on
Linux it only becomes the program. A program of its own because running Python between fork and exec
(`preexec_fn`) can lock up a process that has threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """See above; never returns."""
    parent, program = int(sys.argv[1]), sys.argv[2]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before we asked to be told
            sys.exit("the parent has ended")
    os.execv(program, sys.argv[2:])  # noqa: S606 - becoming a program needs no shell


if __name__ == "__main__":
    main()
