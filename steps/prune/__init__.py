"""Deletes from the runs volume what nothing needs any more and what can be made again."""
