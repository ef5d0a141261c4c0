"""Jobs as runs on this machine, one at a time."""
