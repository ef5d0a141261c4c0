"""What the cells of a row may hold, whatever the row's form: texts, lists, tools, calls of tools, and thoughts."""
