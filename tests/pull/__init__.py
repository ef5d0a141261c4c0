"""The puller against a source with a real network's faults."""
