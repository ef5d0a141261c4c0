"""The Hera workflows, and what their tasks run in."""
