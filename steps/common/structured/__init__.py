"""Structure in the text of an answer: JSON values, and the calls of tools in each family's format."""
