"""Language models: load one, generate with it, log-probabilities of responses."""
