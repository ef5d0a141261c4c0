"""What is wanted: the recipe as one typed model, its reader, and the recipes that ship with their data."""
