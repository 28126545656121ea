"""`python -m affiant.modelserver <config.json>`; the file holds an `affiant.common.serving.ServerConfig`."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import msgspec
import structlog
import uvloop

from affiant.common import logs
from affiant.common.serving import ServerConfig, read_config
from affiant.modelserver.app import App

log = structlog.get_logger(__name__)


def main(arguments: list[str]) -> int:
    """Run one model server; returns the exit code (see `affiant.modelserver.app`)."""
    logs.configure("modelserver")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # our own log says when we are ready and drained
    if len(arguments) != 1:
        log.error("usage: python -m affiant.modelserver <config.json>")
        return 2
    try:
        config = read_config(Path(arguments[0]).read_bytes())
        config = msgspec.structs.replace(config, replica=config.replica or os.environ.get("AFFIANT_REPLICA", ""))
    except (OSError, msgspec.DecodeError) as error:
        # The reason is the whole story; a traceback would hide it.
        log.error("the configuration cannot be read", path=arguments[0], reason=str(error))  # noqa: TRY400
        return 2
    if not config.replica:
        log.error("the configuration names no replica", hint="set AFFIANT_REPLICA, such as to the pod's name")
        return 2
    structlog.contextvars.bind_contextvars(
        model=config.spec.model, version=config.spec.version, alias=config.alias, replica=config.replica
    )
    return uvloop.run(_run(config))


async def _run(config: ServerConfig) -> int:
    return await App(config).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
