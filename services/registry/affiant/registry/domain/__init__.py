"""The rules of the registry. Pure: no files, no database, no clock; the time is handed in.

`manifest` says what an author may state about a model, `columns` and `decision` what is made of it, `lifecycle`
what may happen to a version.
"""
