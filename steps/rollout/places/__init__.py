"""Where a version is served: in a cluster, or by processes of this machine."""
