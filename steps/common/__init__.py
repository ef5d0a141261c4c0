"""What more than one step needs: volumes, progress, errors, sources, rows, packs, the resolved recipe."""
