"""Serving by vLLM: the base server, its adapters, its replicas."""
