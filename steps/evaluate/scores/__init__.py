"""Everything that is measured of one model."""
