"""What is done: one package a step, each a typed input, a typed output and one function between them."""
