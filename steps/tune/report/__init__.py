"""What a training leaves: the adapter's folder, its figures, its curves in MLflow."""
