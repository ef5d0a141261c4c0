"""What a user wants: the recipe as one typed model, its reader, and the recipes that ship with their data."""
