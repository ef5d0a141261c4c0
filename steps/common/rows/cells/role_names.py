"""The role names that are in use, and the roles that they mean."""

from typing import Literal

# Without this mapping, the model would be trained on role names that it has never seen.
ROLES: dict[str, Literal["system", "user", "assistant", "tool"]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "tool_result": "tool",
    "function_response": "tool",
    "ipython": "tool",
    "environment": "tool",
}
CALL_ROLES = ("function_call", "tool_call")  # the assistant's; the content is the JSON of the call
