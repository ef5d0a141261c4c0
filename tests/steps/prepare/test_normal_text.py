"""Texts that say the same are the same, and no others."""

import itertools

import pytest

from steps.prepare.normal_text import normal

SAME = [
    ("Are you open?", "are  you open"),
    ("well-known", "Well known"),
    ("Yes, please.", "yes please"),
    ("don't", "don\u2019t"),
    ("\u201cHi\u201d", "'hi'"),
    ("Hello (there)!", "hello there"),
    ("yes \u2013 no", "yes no"),
    ("It costs 5.", "it costs 5"),
    ("Is it 5?", "is it 5"),
    ("2, 3 and 4", "2 3 and 4"),
    ("In 2020, we met.", "in 2020 we met"),
    ("- item", "item"),
    ("\uff21\uff22\uff23", "abc"),
    ("Stra\u00dfe", "STRASSE"),
    ("\u0928\u092e\u0938\u094d\u0924\u0947\u0964", "\u0928\u092e\u0938\u094d\u0924\u0947"),
    ("\u4f60\u597d\u3002", "\u4f60\u597d"),
    ("a\nb\t c", "a b c"),
]
DIFFERENT = [
    *(
        itertools.combinations(
            ["7 + 2 =", "7 - 2 =", "7 \u2013 2 =", "7 * 2 =", "7 / 2 =", "7 ^ 2 =", "7 % 2 =", "7 2 ="], 2
        )
    ),
    ("2+3", "2-3"),
    ("2.5", "25"),
    ("2.5", "2 5"),
    ("3,4", "3.4"),
    ("10:30", "1030"),
    (".5", "5"),
    ("(2+3)*4", "2+3*4"),
    ("( 2 + 3 ) * 4", "2 + 3 * 4"),
    ("5! + 1", "5 + 1"),
    ("x != 3", "x = 3"),
    ("x < y", "x > y"),
    ("2^-3", "2^3"),
    ("-x", "x"),
    ("ls -l", "ls l"),
    ("is 5", "is -5"),
    ("f[0]", "f(0)"),
    ("a && b", "a b"),
    ("a_b", "a b"),
    ("10%", "10"),
    ("C#", "C"),
    ("C++", "C"),
    ("5\u00b2", "52"),
    ("1\u00bd", "11/2"),
    ("1\u00bd", "11\u20442"),
    ("\u0926\u093f\u0928", "\u0926\u0940\u0928"),  # vowel signs, which Unicode counts as marks
    ("\u0926\u093e\u0928", "\u0926\u093e\u0928\u093e"),
    ("\u0e01\u0e34\u0e19", "\u0e01\u0e37\u0e19"),
    ("\U0001f44d", "\U0001f44e"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_case_spacing_and_the_punctuation_of_prose_do_not_count(one: str, other: str) -> None:
    assert normal(one) == normal(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_whatever_may_change_the_meaning_counts(one: str, other: str) -> None:
    assert normal(one) != normal(other)


def test_a_text_of_punctuation_alone_is_itself() -> None:
    assert normal("?") != normal("!")
    assert normal("...") != normal("")


def test_beside_other_scripts_it_is_the_same() -> None:
    for one, other in SAME:
        assert normal(f"\u00e9 {one}") == normal(f"\u00e9 {other}")
    for one, other in DIFFERENT:
        assert normal(f"\u00e9 {one}") != normal(f"\u00e9 {other}")
