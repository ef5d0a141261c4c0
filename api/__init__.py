"""OpenAI's API for fine-tuning, over the runs of one machine or of a cluster."""
