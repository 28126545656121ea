"""Where the registry keeps things: rows in SQLite or PostgreSQL, files by their SHA-256.

`tables` declares the schema, `database` opens it and runs transactions, `records` is what a transaction can do,
`artifacts` are the files.
"""
