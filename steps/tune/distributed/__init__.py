"""Training on several GPUs: the process group, and a base model replicated or sharded across its ranks."""
