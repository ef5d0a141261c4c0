"""The candidate as others load it: a merged model for transformers, a GGUF file for llama.cpp and what builds on it."""
