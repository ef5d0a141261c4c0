"""Registers the adapter, with its lineage, in MLflow."""
