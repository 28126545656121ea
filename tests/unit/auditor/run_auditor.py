"""`python run_auditor.py`: the auditor as a service, with settings from the environment."""

from __future__ import annotations

from affiant.auditor.app import make_service
from affiant.common import runner

if __name__ == "__main__":
    runner.run(make_service())
