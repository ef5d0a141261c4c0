"""What more than one step needs, one folder a concern; each may import those listed before it in `docs/design.md`."""
