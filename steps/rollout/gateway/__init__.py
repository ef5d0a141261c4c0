"""Envoy in front of the model server: its configuration, its process, its counters."""
