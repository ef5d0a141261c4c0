"""One attempt to get a node: what was requested, what came of it, and why."""
