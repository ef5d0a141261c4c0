"""How long rows are under the model's own chat template and tokenizer."""
