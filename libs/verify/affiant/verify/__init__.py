"""The verifier: one file, `program.py`, that needs Python and `cryptography` and nothing of Affiant.

Whoever does not trust the log should not have to run its writer's code, nor a machine of its operator: the file is
carried elsewhere (`affiant verify --write affiant_verify.py`) and run there. import-linter holds that it imports
nothing of ours; `affiant verify` and `affiant prediction` run the same functions.
"""
