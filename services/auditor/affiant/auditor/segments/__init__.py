"""Sealed columnar segments: the same predictions as Parquet files, for questions that read many rows of few columns.

They are derived: each replica of the auditor keeps its own below its data folder, and can always make them again from
the entries. `columns` builds tables, `manifest` says which files there are, `files` writes and removes them durably,
`questions` asks DuckDB. Nothing here reads the store.
"""
