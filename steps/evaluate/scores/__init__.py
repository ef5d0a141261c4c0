"""What each model is scored on: held-out rows, general questions, tasks with references, tasks of lm-eval."""
