"""An adapter's files, LoRA's arithmetic, merging, and which adapters vLLM supports."""
