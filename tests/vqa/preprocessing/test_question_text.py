"""Questions, vocabularies and normalised answers."""

import pytest

from vqa.errors import BadText, BadVocab
from vqa.preprocessing.answer_normalization import normalize_answer
from vqa.preprocessing.question_text import MAX_CHARACTERS, clean_question, tokenize
from vqa.preprocessing.vocabulary import Vocab

GOLDEN = {
    "Yes.": "yes",
    "The dog": "dog",
    "1,000": "1000",
    "1, 000": "1 000",
    "2.5": "2.5",
    "$2.50": "$2.50",
    "none": "0",
    "t-shirt": "t shirt",
    "U.S.A.": "usa",
    "dont": "don't",
    "ten": "10",
    "eleven": "eleven",
    "one way": "1 way",
}


# --- questions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", [None, "", " \t\n", "\x00\x1b", "\u200b\u200e", "\u200d", "\u2028"]
)
def test_an_empty_question_is_asked_for(text):
    with pytest.raises(BadText, match="empty: type one"):
        clean_question(text)


def test_a_question_too_long_is_refused_with_limit_and_length_and_not_cut():
    with pytest.raises(BadText, match=r"100,000 characters and the limit is 1,000"):
        clean_question("a" * 100_000)
    with pytest.raises(BadText, match=r"1,001"):
        clean_question("a" * (MAX_CHARACTERS + 1))


def test_a_question_at_the_limit_passes_whole():
    assert clean_question("  " + "a" * MAX_CHARACTERS + "  ") == "a" * MAX_CHARACTERS


def test_control_and_zero_width_characters_are_removed_and_white_space_made_one():
    assert (
        clean_question(" What\x00 is\u200b\ufeff \x1b[31m\nthis\t\u202e?\u2066\x7f ")
        == "What is [31m this ?"
    )


def test_half_a_surrogate_pair_is_removed():
    clean_question("What is this?\ud800").encode("utf-8")


def test_a_family_emoji_and_persian_joiners_are_kept_for_showing():
    assert clean_question("👨‍👩‍👧?") == "👨‍👩‍👧?"
    assert clean_question("می‌خواهم") == "می‌خواهم"


@pytest.mark.parametrize(
    "text",
    ["![x](https://example.com/x.png)", "[me](javascript:alert(1))", "<b>who?</b>", "מה זה?"],
)
def test_markup_links_and_right_to_left_are_text_like_any_other(text):
    assert clean_question(text) == text
    assert tokenize(text)


@pytest.mark.parametrize("text", ["🐶🐶", "???", "ما هذا؟", "-", "_", "∑", "❤️"])
def test_any_question_that_passes_has_a_token(text):
    assert tokenize(clean_question(text))


def test_checking_twice_changes_nothing():
    once = clean_question("  Is\u200b it\r\na  🐶?")
    assert clean_question(once) == once == "Is it a 🐶?"


# --- tokens ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("What's the man holding?", ["what", "'s", "the", "man", "holding"]),
        ("What\u2019s this", ["what", "'s", "this"]),
        ("Isn't it?", ["isn", "'t", "it"]),
        ("the boys' hats, 'stop'", ["the", "boys", "hats", "stop"]),
        ("2-way, 10:30, 1,000 or 2.5?", ["2", "way", "10", "30", "1,000", "or", "2.5"]),
        ("the 2nd Boeing 737.", ["the", "2nd", "boeing", "737"]),
        ("co\u200dlor\u00ad of the CAFÉ", ["color", "of", "the", "cafe"]),
        ("ＷＨＡＴ is ﬁne", ["what", "is", "fine"]),  # noqa: RUF001  full width on purpose
        ("snake_case", ["snake", "case"]),
        ("what is 🐶?", ["what", "is"]),
        ("🐶 ?", ["🐶", "?"]),
        ("ما هذا؟", ["ما", "هذا"]),
        ("  ", []),
    ],
)
def test_a_question_is_split_into_words_and_numbers(text, tokens):
    assert tokenize(text) == tokens


# --- vocabulary --------------------------------------------------------------------------------


def test_a_vocabulary_has_frequent_words_first_and_equals_by_alphabet():
    texts = [["is", "it", "red"], ["is", "it", "blue"], ["is"]]
    assert Vocab.build(texts).words == ("<pad>", "<unk>", "is", "it", "blue", "red")
    assert Vocab.build(reversed(texts)) == Vocab.build(texts)
    assert Vocab.build(texts, min_count=2).words == ("<pad>", "<unk>", "is", "it")


def test_words_become_their_places_and_unknown_ones_unk():
    vocab = Vocab.build([["is", "it"]])
    assert vocab.encode(["is", "xyzzy", "it"]) == [2, Vocab.UNK, 3]
    assert vocab.encode([]) == []
    assert len(vocab) == 4
    assert "is" in vocab
    assert "xyzzy" not in vocab


def test_a_question_of_unknown_words_only_is_encoded_as_unknown():
    vocab = Vocab.build([["is", "it"]])
    assert vocab.encode(tokenize(clean_question("Xyzzy plugh 🐶?"))) == [Vocab.UNK, Vocab.UNK]


def test_the_special_words_are_not_learned_twice():
    assert Vocab.build([["<unk>", "<pad>", "dog"]]).words == ("<pad>", "<unk>", "dog")


def test_an_empty_corpus_gives_the_special_words_alone():
    assert Vocab.build([]).words == ("<pad>", "<unk>")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("<pad>", "<unk>", 3), "this is none: 3"),
        (("<pad>", "<unk>", ["dog"]), r"this is none: \['dog'\]"),
        ((), "<pad> at place 0"),
        (("<unk>", "dog"), "<pad> at place 0"),
        (("<pad>", "dog"), "<unk> at place 1"),
        (("<pad>", "<unk>", "dog", "cat", "dog"), "'dog' 2 times"),
        (("<pad>", "<unk>", "<pad>"), "'<pad>' 2 times"),
    ],
)
def test_a_bad_vocabulary_is_named(words, problem):
    with pytest.raises(BadVocab, match=problem):
        Vocab(words)


# --- answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "normal"), GOLDEN.items())
def test_answers_are_normalised_as_the_official_script_does(text, normal):
    assert normalize_answer(text) == normal


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Zero", "0"),
        ("a man, the woman", "man woman"),
        ("black-and-white", "black and white"),
        ("black -white", "black white"),
        ("1,000-2", "10002"),  # a comma in a number deletes every mark
        ("6:10", "6:10"),
        ("3.", "3"),
        (".5", ".5"),
        ("yes!\n", "yes"),
        ("a-\tb", "b"),
        ("couldn'tve", "couldn't've"),
        ("couldnt've", "couldn't've"),
        ("OCLOCK", "o'clock"),
        ("yalld've", "yalld've"),  # two apostrophes forgotten: not in the table
        ("yall'd've", "y'all'd've"),
        ("ow's'at", "'ow's'at"),
        ("somebody'd", "somebodyd"),  # the official table has this one reversed
        ("lets", "lets"),  # a word of its own: not in the table
        ("The", ""),
        ("", ""),
    ],
)
def test_the_odd_corners_of_the_official_script_are_kept(text, normal):
    assert normalize_answer(text) == normal


@pytest.mark.parametrize("text", GOLDEN)
def test_normalising_twice_changes_nothing(text):
    assert normalize_answer(normalize_answer(text)) == normalize_answer(text)
