"""What the deployer can do, whoever asks: note a wish, reconcile, tell how things are."""
