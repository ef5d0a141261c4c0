"""The only access to the Kubernetes API: its client, its errors, objects, and waiting for pods."""
