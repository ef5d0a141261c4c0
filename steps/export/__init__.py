"""Exports a version: a merged model for transformers, a GGUF file for llama.cpp and the tools built on it."""
