"""What runs when: the Hera workflows, their run on one machine, and the command."""
