"""Where the record is kept: SQLite on a laptop, PostgreSQL in a cluster. One writer, any number of readers.

`database` is the seam: what a back end is, and what an open connection can do. `sqlite` and `postgresql` are the two
back ends, `location` chooses by URL, `schema` holds the tables of both. Every other module is functions over an open
connection, one module for each subject, in SQL that both understand. Nothing here decides anything.
"""
