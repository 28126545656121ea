"""The auditor's rules: what an event becomes in the record, which numbers are missing, whether groups fare alike.

Pure: no I/O, the time is given as an argument.
"""
