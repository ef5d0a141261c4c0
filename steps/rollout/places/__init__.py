"""Where versions are served: in a cluster or on one machine."""
