"""Serving with vLLM: the base server, its adapters, its replicas."""
