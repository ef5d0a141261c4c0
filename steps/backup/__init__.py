"""Saves what a namespace or a machine cannot make again, and brings it back: the registry, and files of the runs volume."""
