"""An adapter's files, its arithmetic, and what vLLM takes of it."""
