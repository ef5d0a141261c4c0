"""The kinds of data files, one module each: what is read of a file is a sequence of raw records."""
