"""The Kubernetes objects of a version."""
