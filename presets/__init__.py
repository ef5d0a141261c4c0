"""What is known: models as data files with a typed reader, and the memory and time arithmetic. No torch, no Kubernetes."""
