"""What the run will do, need and cost; refuses what would fail later."""
