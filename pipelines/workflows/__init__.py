"""The Hera workflows and the containers of their tasks."""
