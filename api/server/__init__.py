"""The front of the API: its routes, the services that they share, and the middleware in front of them."""
