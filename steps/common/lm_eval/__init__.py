"""Tasks of lm-eval, EleutherAI's language model evaluation harness: packed with their rows, and asked of a model."""
