"""Our model server with auditing taken out, to see what auditing costs. It exists here only: the product has no such
policy.

    python benchmarks/modelserver/unaudited.py <config.json> nothing      no record is encoded, none is published
    python benchmarks/modelserver/unaudited.py <config.json> encoded      records are encoded, and acknowledged at once
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import uvloop

from affiant.common import logs
from affiant.common.serving import ServerConfig, read_config
from affiant.modelserver.app import App
from affiant.modelserver.audit import Audit
from affiant.modelserver.inference import Answer, Inference
from affiant.modelserver.model import Model
from affiant.modelserver.record import Identity


class AtOnce:
    """Acknowledges without doing anything."""

    def full(self) -> str:
        return ""

    def trouble(self) -> str:
        return ""

    async def keep(self, *_: Any) -> None:
        """Done."""

    def leave(self, *_: Any) -> None:
        """Done."""


class Unrecorded(Inference):
    """Neither encodes nor keeps a record."""

    async def _keep(self, *given: Any) -> Answer:
        _, _, outcome, _ = given
        answer: Answer = outcome.answer
        return answer


class Unaudited(App):
    """The application with one of the two put in."""

    def __init__(self, config: ServerConfig, what: type[Inference]) -> None:
        super().__init__(config)
        self._what = what

    def _make_inference(self, model: Model, _: Audit) -> Inference:
        who = Identity(self._config.spec, self._config.alias, self._config.replica, self._epoch)
        return self._what(model, who, AtOnce(), self._metrics.done)


async def main(path: str, what: str) -> int:
    config = read_config(Path(path).read_bytes())
    return await Unaudited(config, Unrecorded if what == "nothing" else Inference).run()


if __name__ == "__main__":
    logs.configure("unaudited")
    sys.exit(uvloop.run(main(sys.argv[1], sys.argv[2])))
