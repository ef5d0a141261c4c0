"""What can be written as GGUF: architectures, quantisations, tokenizers."""
