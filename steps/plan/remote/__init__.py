"""Data that lies elsewhere: one module a scheme, each telling what is there, and one that keeps a copy on the volume."""
