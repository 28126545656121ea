"""Where the record is kept: SQLite (WAL, `synchronous=FULL`), one writer, any number of readers.

`database` opens it and says when it is away; every other module is functions over an open connection, one module
for each subject. Nothing here decides anything.
"""
