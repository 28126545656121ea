"""The explainer: why a logged prediction came out as it did, computed by Alibi, beside the flow and never in it.

It reads the predictions that everybody reads, picks by the version's policy, keeps a durable job for each row,
computes in worker processes, and publishes `prediction_explained` or `explanation_failed`.
"""
