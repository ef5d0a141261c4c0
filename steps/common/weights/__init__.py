"""Base models: the weights volume and the sources of weights."""
