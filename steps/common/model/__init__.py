"""A base model in memory, and micro-batches of rows for it."""
