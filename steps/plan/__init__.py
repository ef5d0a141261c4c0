"""The plan of a run: what it will do, need and cost. Refuses what would fail later."""
