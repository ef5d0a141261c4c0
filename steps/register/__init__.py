"""The adapter alone, with its lineage, in MLflow's registry."""
