"""MLflow: the tracking client, and the registry's versions and aliases."""
