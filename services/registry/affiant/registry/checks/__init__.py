"""Examining a model file that nobody vouches for.

`examiner` (in the service) starts `child` (a process with limits) and reads what it found; `graph` reads the file
before anything is expanded, `table` the background data, `smoke` loads the model and runs it. Only the child
touches the bytes of a model.
"""
