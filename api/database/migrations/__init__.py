"""The migrations from the tables of one release to those of the next."""
