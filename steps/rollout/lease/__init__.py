"""The right to change what serves under a model's name: a Lease in a cluster, a lock file on one machine."""
