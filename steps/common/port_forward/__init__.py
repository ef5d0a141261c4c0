"""What a command and a step's pod send each other through a port-forward: a token, lines, and streams in parts."""
