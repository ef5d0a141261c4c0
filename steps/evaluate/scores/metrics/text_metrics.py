"""Metrics of texts, for words in any script."""

import re
import unicodedata

from steps.common.runtime.word_splitting import UNSPACED

WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")


def normalised(text: str) -> str:
    """Return the text in Unicode form NFKC, without case, punctuation and repeated spaces."""
    letters = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(" " if unicodedata.category(one)[0] == "P" else one for one in letters).split())


def exact(answer: str, reference: str) -> float:
    """Return 1 if the answer equals the reference, ignoring case and punctuation, else 0."""
    return float(normalised(answer) == normalised(reference))


def contains(answer: str, reference: str) -> float:
    """Return 1 if the answer contains the reference as whole words, ignoring case and punctuation, else 0."""
    return float(f" {normalised(reference)} " in f" {normalised(answer)} ")


def rouge_l(answer: str, reference: str) -> float:
    """Return the F-measure of ROUGE-L (Lin 2004, https://aclanthology.org/W04-1013), for words in any script.

    rouge-score's own tokenizer drops everything but a to z and digits (https://github.com/huggingface/evaluate/issues/256).
    """
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], tokenizer=_Words())
    return float(scorer.score(reference, answer)["rougeL"].fmeasure)


class _Words:
    """A tokenizer in rouge-score's sense."""

    def tokenize(self, text: str) -> list[str]:
        """Return the words; in scripts that write no spaces between words, the letters."""
        return WORD.findall(normalised(text))
