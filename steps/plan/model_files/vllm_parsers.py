"""The names of vLLM's parsers of tool calls: an unknown one would stop vLLM at its start, hours after the plan."""

import re
from difflib import get_close_matches

from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import say

# From `vllm/tool_parsers/__init__.py` in the wheel of this version on PyPI, which was built on 2026-10-17.
VERSION = "v0.32.0"
_TEXT = """
apertus cohere_command3 cohere_command4 deepseek_v3 deepseek_v31 deepseek_v32 deepseek_v4 deepseek_v41 dots ernie45
functiongemma gemma4 gigachat3 glm45 glm47 granite granite-20b-fc granite4 hermes hf hunyuan_a13b hy_v3 hy_v4 inkling
internlm jamba k2_horizon kimi_k2 kimi_k3 lfm2 ling3 llama3_json llama4_json llama4_pythonic longcat mimo minicpm5
minimax_m2 minimax_m3 mistral muse_glimmer olmo3 openai phi4_mini_json plamo3 poolside_v1 pythonic qwen3_coder
qwen3_json qwen3_xml seed_oss step3 step3p5 xlam
"""
NAMES = frozenset(_TEXT.split())
PUBLISHED = re.compile(rf"(?:.*/)?vllm-openai:{re.escape(VERSION)}(?:@.*)?")  # or a mirror of it


def refuse_unknown_parser(name: str, image: str) -> None:
    """Refuse a parser that vLLM does not have; warn if the image is another than the one whose parsers are known.

    Args:
        name: of the parser; empty: none is used.
        image: vLLM's.

    Raises:
        UserError: with the nearest name.
    """
    if not name or name in NAMES:
        return
    near = get_close_matches(name, NAMES, 1)
    meant = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(sorted(NAMES))}"
    if PUBLISHED.fullmatch(image):
        raise UserError(f"chat.tool_parser: vLLM {VERSION} has no parser {name!r}{meant}")
    say(
        f"warning: chat.tool_parser: vLLM {VERSION} has no parser {name!r}, and whether {image} has it is not known{meant}"
    )
