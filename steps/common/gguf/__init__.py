"""What can be written as GGUF: which architectures, which quantisations, which tokenizers."""
