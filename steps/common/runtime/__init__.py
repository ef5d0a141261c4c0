"""What every step runs on: errors and exit codes, progress, settings, certificates."""
