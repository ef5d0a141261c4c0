"""Takes a file of local data from the command that sends it."""
