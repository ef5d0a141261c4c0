"""One attempt to get a node: what it asks for, what came of it, and why."""
