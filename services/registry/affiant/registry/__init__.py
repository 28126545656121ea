"""The registry: models, their immutable versions, who approved them, and which one an alias points to.

Owns `model_registered`, `model_promoted`, `model_deprecated` and `model_archived`. A model file is hostile input:
it is examined by `checks` in a child process with limits before a version of it exists.
"""
