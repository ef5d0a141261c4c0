"""What a tuning leaves behind: the adapter's folder, its report, and its curves in MLflow."""
