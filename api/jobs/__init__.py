"""Fine-tuning jobs: a face on runs."""
