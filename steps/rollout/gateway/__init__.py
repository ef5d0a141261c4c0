"""The gateway in front of a model server: Envoy, its configuration and its statistics."""
