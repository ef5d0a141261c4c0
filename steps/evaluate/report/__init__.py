"""The evaluation's report: put together, drawn as a page, logged to MLflow."""
