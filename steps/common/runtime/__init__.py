"""What every step runs on: its errors and exit code, progress, settings, certificates."""
