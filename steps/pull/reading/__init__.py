"""Where the bytes of a file come from, by the scheme of its URL."""
