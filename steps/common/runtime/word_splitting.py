"""Words in scripts that put no space between them."""

# Thai and Lao, kana, CJK ideographs, for a class of a regular expression: there a word is taken to be one character.
UNSPACED = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff"
