"""A base model in memory, and micro-batches of rows to run through it."""
