"""Where the explainer keeps what it knows: one SQLite file, one transaction for a state and its event.

`jobs` holds versions, waiting predictions and jobs, `surveys` the versions that are explained as a whole.
"""

from affiant.explainer.store.jobs import Ended as Ended, Store as Store, Waiting as Waiting, outbox_rows as outbox_rows
from affiant.explainer.store.surveys import Surveys as Surveys
