"""Trial of a new version: the live gate before it gets the traffic, the watch window after."""
