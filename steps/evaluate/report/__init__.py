"""The report of a run: its data, its page, its plots, its copy in MLflow."""
