"""Whether a namespace has all that a run needs: what was found, and what to do where something is missing."""
