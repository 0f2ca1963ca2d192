"""What operators see: logs, metrics, and the closed lists of words that they use."""
