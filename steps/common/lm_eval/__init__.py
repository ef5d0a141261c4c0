"""Tasks of lm-eval (EleutherAI's lm-evaluation-harness): packed with their rows, loaded and run."""
