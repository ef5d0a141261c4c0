"""Who may call the API, and how much of it."""
