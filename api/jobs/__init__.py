"""Fine-tuning jobs: OpenAI's view of runs."""
