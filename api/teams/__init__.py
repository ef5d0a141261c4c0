"""Who may call the API, and how much they may use."""
