"""Subjects are bytes that a publisher chose: nothing in them may stop whoever reads them.

nats-server lets any byte into a subject but blank, tab and line break. nats-py 2.16 decodes subjects as UTF-8, and
its parser takes a vertical tab or a form feed for a blank: one such message ends the client's reader for good, or
makes it lose its connection each time the message is delivered. An outside system could stop the audit with it.
"""

from __future__ import annotations

import re
from typing import Any

from nats.aio.client import Client
from nats.protocol import parser

_WORD = rb"([^ \t\r\n]+)"
_MSG = re.compile(rb"\AMSG[ \t]+" + _WORD + rb"[ \t]+" + _WORD + rb"[ \t]+(" + _WORD + rb"[ \t]+)?(\d+)\r\n")
_HMSG = re.compile(
    rb"\AHMSG[ \t]+" + _WORD + rb"[ \t]+" + _WORD + rb"[ \t]+(" + _WORD + rb"[ \t]+)?(\d+)[ \t]+(\d+)\r\n"
)
_build_message = Client._build_message


def accept_any() -> None:
    """Let every nats-py client of this process read whatever subject the server delivers; safe to repeat.

    What is not UTF-8 is seen escaped (`\\xff`), so that it can be stored and shown. Call before connecting.
    """
    parser.MSG_RE, parser.HMSG_RE = _MSG, _HMSG
    # FastStream makes its client by itself, so a subclass of ours would not be used.
    Client._build_message = _build_readable_message  # type: ignore[method-assign,assignment]


def _build_readable_message(client: Client, sid: int, subject: bytes, *rest: Any) -> Any:
    if not subject.isascii():
        subject = subject.decode(errors="backslashreplace").encode()
    return _build_message(client, sid, subject, *rest)
