"""What is known: models and instance types as data files with typed readers, and the arithmetic. No torch, no Kubernetes."""
