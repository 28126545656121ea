"""What the explainer can do, whoever asks: consider a prediction, answer a request, work through the queue."""
