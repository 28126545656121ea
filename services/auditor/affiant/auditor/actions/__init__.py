"""What the auditor can do, whoever asks: record, look up, prove, sign checkpoints, watch."""
