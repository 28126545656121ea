"""`python run_deployer.py [command…]`: the deployer as a service, with another command to start model servers."""

from __future__ import annotations

import sys

from affiant.common import runner
from affiant.deployer.app import make_service

if __name__ == "__main__":
    command = tuple(sys.argv[1:])
    runner.run(make_service(command=command) if command else make_service())
