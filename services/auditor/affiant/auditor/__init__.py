"""The auditor: keeps every prediction, explanation and lifecycle event, and can prove it.

`handlers` pulls from the bus, `actions` says what the service can do, `store` keeps it (SQLite), `log` is the
Merkle log (RFC 6962) over what is kept, `domain` holds the rules.
"""
