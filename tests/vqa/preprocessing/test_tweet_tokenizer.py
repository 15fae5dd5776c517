"""Informal text cut into tokens."""

import pytest

from vqa.preprocessing.tweet_tokenizer import MAX_CHARACTERS, grams, tokenize

CASES = {
    "I AM so happyyyy!!!": ["i", "am", "so", "happyy", "!!"],
    "don’t @Someone_1 #BlessedDay": ["don't", "@user", "#blessedday"],
    "see https://t.co/abc?d=1 or www.x.org now": ["see", "http", "or", "http", "now"],
    "❤️ ❤ 👍🏽👍": ["❤", "❤", "👍", "👍"],
    "👨‍👩‍👧🇺🇸🇫🇷": ["👨‍👩‍👧", "🇺🇸", "🇫🇷"],
    "ok :) :-( <3": ["ok", ":)", ":-(", "<3"],
    "مرحبا بالعالم": ["مرحبا", "بالعالم"],
    "ＦＵＬＬ café": ["full", "café"],
    "what's 10/10?": ["what's", "10", "/", "10", "?"],
    "": [],
    " \n\t\u200b\u202e": [],
    "\ufe0f \ufe0f": [],  # what TweetEval left of an emoji would tell the label
}


@pytest.mark.parametrize("text", CASES)
def test_a_text_gives_these_tokens(text):
    assert [token.spelling for token in tokenize(text)] == CASES[text]


@pytest.mark.parametrize("text", [*CASES, "\ud800 half a pair", "a" * 100, "\x00\x07"])
def test_tokens_stand_where_they_say(text):
    end = 0
    for token in tokenize(text):
        assert end <= token.start < token.end <= len(text)
        end = token.end
        assert text[token.start : token.end].strip() == text[token.start : token.end]


def test_long_texts_take_no_longer_than_they_must():
    for text in ("a" * MAX_CHARACTERS, "ab " * (MAX_CHARACTERS // 3), "!?" * 5000, "#" * 9999):
        assert tokenize(text)


def test_grams_are_those_of_the_framed_word():
    assert len(grams("cat", 1000)) == 3 + 2  # <ca cat at> <cat cat>
    assert len(grams("a", 1000)) == 2  # <a> and, as it has no four, <a> again
    assert set(grams("happy", 10**6)) & set(grams("happyy", 10**6))
    assert all(0 <= number < 7 for number in grams("anything", 7))
    assert grams("a" * 1000, 100) == grams("a" * 2000, 100)
    assert grams("\ud800", 100)
