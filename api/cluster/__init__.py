"""Jobs as Workflows of the cluster that this pod runs in."""
