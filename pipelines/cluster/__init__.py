"""A run on a cluster: submitted, followed, stopped."""
