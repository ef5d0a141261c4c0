"""The model server of a merged model: transformers' handlers behind OpenAI's paths and OpenAI's errors."""
