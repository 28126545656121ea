"""Affiant's demonstration: from a table of loan decisions to sworn, explained predictions, on one machine.

`python -m examples.loan` trains two models, starts the whole system, registers, approves, deploys, sends held-out
applications over HTTP, changes the version under load, rolls back, and reports. `table`, `guess`, `openml` and
`synthetic` get the data; `train` makes ONNX files; `story` is the run itself, over public HTTP APIs only (`client`);
`outcome` holds what a run found; `report`, `page` and `waterfall` show it.
"""
