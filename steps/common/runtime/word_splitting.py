"""Words in scripts that are written without spaces between them."""

# Thai and Lao, kana and CJK ideographs, for a character class of a regular expression: each character counts as a word.
UNSPACED = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff"
