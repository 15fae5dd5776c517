"""The tokeniser, the caption scores against pycocoevalcap's, and the metric around them."""

import math
import random
import socket
from collections import Counter

import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from vqa.metrics.caption_scores import CaptionScores
from vqa.metrics.functional.captions import CiderIndex, bleu, caption_scores, rouge_l
from vqa.preprocessing.ptb_tokenizer import PUNCTUATION, ptb_tokenize

# Only the order of summing differs from the evaluation's code.
EXACT = 1e-9

WORDS = [
    "a",
    "the",
    "dog",
    "cat",
    "man",
    "red",
    "runs",
    "sits",
    "on",
    "in",
    "with",
    "ball",
    "grass",
    "two",
    "of",
]


def corpus(seed, pictures, people, words=WORDS):
    """Make up captions of 0 to 14 words, some copied from the references, and references."""
    rng = random.Random(seed)

    def say(least, most):
        return rng.choices(words, k=rng.randint(least, most))

    references = [[say(1, 12) for _ in range(people)] for _ in range(pictures)]
    captions = []
    for given in references:
        copied = rng.choice(given)
        kinds = (say(0, 14), copied, copied[:3], copied * 2, [], say(1, 1), ["dog"] * 6, ["new"])
        captions.append(rng.choice(kinds))
    return captions, references


def coco(captions, references):
    """Give pycocoevalcap's own scores, of the corpus and CIDEr's of each caption."""
    said = {i: [" ".join(tokens)] for i, tokens in enumerate(captions)}
    given = {i: [" ".join(tokens) for tokens in each] for i, each in enumerate(references)}
    blue, _ = Bleu().compute_score(given, said, verbose=0)
    scores = {f"bleu{n}": score for n, score in enumerate(blue, 1)}
    scores["rouge_l"], _ = Rouge().compute_score(given, said)
    scores["cider"], each = Cider().compute_score(given, said)
    return scores, each


def plain_cider(caption, references, corpus_references):
    """Give the cosine form of the paper, straight from its text."""

    def vector(tokens, n):
        grams = Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
        weights = {}
        for gram, times in grams.items():
            have = sum(
                any(gram == tuple(t[i : i + n]) for t in given for i in range(len(t) - n + 1))
                for given in corpus_references
            )
            weights[gram] = times * math.log(len(corpus_references) / max(1, have))
        return weights

    total = 0.0
    for n in range(1, 5):
        said = vector(caption, n)
        for tokens in references:
            given = vector(tokens, n)
            dot = sum(weight * given.get(gram, 0) for gram, weight in said.items())
            size = math.hypot(*said.values()) * math.hypot(*given.values())
            total += dot / size if size else 0
    return 10 * total / 4 / len(references)


@pytest.fixture
def metric(tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("the metric went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    return CaptionScores(cache_dir=str(tmp_path))


# --- tokens ------------------------------------------------------------------------------------

# What the Stanford tokeniser 3.4.1 gave, with the evaluation's options, less what it drops.
GOLDEN = {
    "A man's dog isn't here, he can't and cannot go;": (
        "a man 's dog is n't here he ca n't and can not go"
    ),
    "\"gonna\" 'wanna' gimme lemme gotta": "gon na wan na gim me lem me got ta",
    "'tis 'twas I'm you'll we've he'd they're DON'T dont": (
        "'t is 't was i 'm you 'll we 've he 'd they 're do n't dont"
    ),
    "don't've y'all ain't o'clock ma'am O'Neill D'Angelo c'mon": (
        "do n't 've y' all ai n't o'clock ma'am o'neill d'angelo c'mon"
    ),
    "dogs' toys, the boys' James's": "dogs toys the boys james 's",
    "rock'n'roll 'em 'cause 'round the '90s": "rock 'n' roll 'em 'cause round the '90s",
    "t-shirt's e-mail twenty-one -dog- dog--cat ice-cream-truck": (
        "t-shirt 's e-mail twenty-one dog dog cat ice-cream-truck"
    ),
    "2.5 1,000 3:30 12:30pm 1/2 1920s 1st 3-4 4x4 10/12/2010": (
        "2.5 1,000 3:30 12:30 pm 1/2 1920s 1st 3-4 4x4 10/12/2010"
    ),
    "$5.00 US$5 10% #1 #tag @home 5'10\" \u00a35 \u00bd cup": (
        "$ 5.00 us$ 5 10 % # 1 #tag @home 5 10 # 5 1/2 cup"
    ),
    "Mr. Smith of St. Louis at 5 p.m. in the U.S. He sits.": (
        "mr. smith of st. louis at 5 p.m. in the u.s. he sits"
    ),
    "A dog jumps .A cat runs.the end . what!The": "a dog jumps a cat runs.the end what!the",
    "wait...what wait\u2026what .... -- --- \u2013 dog , cat ; red : one": (
        "wait what wait what dog cat red one"
    ),
    "(red) [blue] {x} :) look!! what?!": (
        "-lrb- red -rrb- -lsb- blue -rsb- -lcb- x -rcb- :-rrb- look !! what ?!"
    ),
    "\u201cquoted\u201d \u2018it\u2019s\u2019 ``so'' `x` it\u2019s isn\u2019t": (
        "quoted it 's so x it 's is n't"
    ),
    "black/white and/or AT&T AT&amp;T a & b *star* x_y": (
        "black/white and/or at&t at&t a & b * star * x_y"
    ),
    "naïve café ÜNAL \u4e2d\u6587 हिन्दी कुत्ता \u2764\ufe0f \U0001f600dog": (
        "naïve café ünal \u4e2d\u6587 हिन्दी कुत्ता \u2764 dog"
    ),
    "http://a.com/x?b=1 me@x.com www.x.org": "http://a.com/x?b=1 me@x.com www.x.org",
    "tab\tand\nnew\u00a0line so\u00adft": "tab and new line soft",
}


@pytest.mark.parametrize("text", GOLDEN)
def test_the_tokens_are_those_of_the_stanford_tokeniser(text):
    assert " ".join(ptb_tokenize(text)) == GOLDEN[text]


@pytest.mark.parametrize("text", ["", "  \n", ".", "?", '"', "''", "``", "... -- ; , :", "\u200b"])
def test_a_text_without_words_has_no_tokens(text):
    assert ptb_tokenize(text) == []


def test_any_unicode_gives_lower_case_tokens_without_blanks_or_punctuation():
    rng = random.Random(0)
    kinds = "aZ9.,'\u2019`\"-_()[]&@#$ \t\u00e9\u0915\u094d\u0301\u200d\ufe0f\U0001f600\ud800\x00"
    for _ in range(500):
        text = "".join(rng.choices(kinds, k=rng.randint(0, 12)))
        for token in ptb_tokenize(text):
            assert token == token.lower()
            assert token.split() == [token]
            assert token not in PUNCTUATION


# --- agreement with pycocoevalcap --------------------------------------------------------------


@pytest.mark.parametrize("people", [1, 2, 5])
@pytest.mark.parametrize("seed", range(100))
def test_the_scores_equal_those_of_pycocoevalcap(seed, people):
    captions, references = corpus(seed, pictures=seed % 10 + 2, people=people)
    mine, (theirs, each) = caption_scores(captions, references), coco(captions, references)
    assert {name: mine[name] for name in theirs} == pytest.approx(theirs, abs=EXACT)
    index = CiderIndex(references)
    alone = [index.score(said, i) for i, said in enumerate(captions)]
    assert alone == pytest.approx(each.tolist(), abs=EXACT)


def test_the_made_up_captions_are_worth_comparing():
    captions, references = corpus(0, pictures=200, people=5)
    lengths = {len(said) for said in captions}
    assert {0, 1} < lengths
    assert max(lengths) > max(len(tokens) for given in references for tokens in given)
    scores, each = coco(captions, references)
    assert all(score > 0.01 for score in scores.values())
    assert len(set(each.tolist())) > 60


@pytest.mark.parametrize("captions", [[[], []], [["dog"], ["cat"]], [["new"], ["words"]]])
def test_captions_that_score_nothing_do_so_as_in_pycocoevalcap(captions):
    references = [[["a", "red", "dog"], ["dog"]], [["a", "red", "dog"]]]
    theirs, _ = coco(captions, references)
    mine = caption_scores(captions, references)
    assert {name: mine[name] for name in theirs} == pytest.approx(theirs, abs=EXACT)


def test_an_empty_reference_scores_as_in_pycocoevalcap():
    captions, references = [[], ["dog"]], [[[], ["a", "dog"]], [["dog"], []]]
    theirs, _ = coco(captions, references)
    mine = caption_scores(captions, references)
    assert {name: mine[name] for name in theirs} == pytest.approx(theirs, abs=EXACT)


# --- known values ------------------------------------------------------------------------------


def test_bleu_clips_repeated_words_and_marks_short_captions_down():
    the = ["the"] * 7  # the example of the paper: 2 of 7
    assert bleu([the], [[["the", "cat", "is", "on", "the", "mat"]]])[0] == pytest.approx(2 / 7)
    short = bleu([["a", "dog"]], [[["a", "dog", "runs", "fast"]]])
    assert short[0] == pytest.approx(math.exp(1 - 4 / 2))
    assert 0 < short[2] < 0.01  # no three words to be right or wrong: nothing but the guard


def test_bleu_takes_the_reference_closest_in_length_and_the_shorter_of_two_as_close():
    assert bleu([["a"] * 3], [[["a"] * 2, ["a"] * 4]])[0] == pytest.approx(2 / 3 + 1 / 3)
    far = bleu([["a"] * 3], [[["a"] * 4, ["a"] * 9]])
    assert far[0] == pytest.approx(math.exp(1 - 4 / 3))


def test_bleu_is_of_the_corpus_and_not_the_mean_of_captions():
    captions, references = [["a"], ["b", "c", "d"]], [[["a"]], [["x", "y", "z"]]]
    assert bleu(captions, references)[0] == pytest.approx(1 / 4)


def test_rouge_l_takes_the_best_precision_and_the_best_recall():
    said, given = ["a", "dog", "runs"], [["a", "big", "dog", "runs", "fast"], ["runs"]]
    assert rouge_l(said, given[:1]) == pytest.approx(2.44 * 1 * 0.6 / (0.6 + 1.44 * 1))
    assert rouge_l(said, given) == pytest.approx(1)  # recall 1 of the second
    assert rouge_l(["cat"], given) == 0
    assert rouge_l([], given) == 0


def test_perfect_captions_have_the_greatest_scores():
    references = [[f"dog{i} sits on{i} grass{i}".split()] for i in range(3)]
    scores = caption_scores([given[0] for given in references], references)
    assert scores == pytest.approx(
        {**dict.fromkeys(("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l"), 1.0)}
        | dict.fromkeys(("cider", "cider_d", "cider_plain"), 10.0)
    )


def test_cider_d_clips_repeats_and_minds_length_and_the_plain_one_does_neither():
    index = CiderIndex([[["dog"]], [["cat"]]])
    # One word of one: cosine 1 for n = 1, nothing for n = 2 to 4.
    assert index.score(["dog"], 0) == pytest.approx(10 / 4)
    assert index.score_plain(["dog", "dog", "dog"], 0) == pytest.approx(10 / 4)
    assert index.score(["dog", "dog", "dog"], 0) == pytest.approx(10 / 4 / 3 * math.exp(-4 / 72))


def test_words_that_every_picture_has_count_for_nothing():
    index = CiderIndex([[["a", "dog"]], [["a", "cat"]]])
    assert index.score(["a"], 0) == 0
    assert CiderIndex([[["a", "dog"]]]).score(["a", "dog"], 0) == 0


@pytest.mark.parametrize("seed", range(20))
def test_the_plain_cider_equals_the_cosine_form_of_the_paper(seed):
    captions, references = corpus(seed, pictures=6, people=3)
    index = CiderIndex(references)
    mine = [index.score_plain(said, i) for i, said in enumerate(captions)]
    theirs = [plain_cider(said, references[i], references) for i, said in enumerate(captions)]
    assert mine == pytest.approx(theirs, abs=EXACT)


# --- the index ---------------------------------------------------------------------------------


def test_the_index_scores_any_caption_for_any_picture_in_any_order():
    _, references = corpus(1, pictures=8, people=5)
    index = CiderIndex(references)
    assert len(index) == 8
    said = references[3][0]
    first = [index.score(said, i) for i in range(8)]
    assert [index.score(said, i) for i in reversed(range(8))] == first[::-1]
    theirs = [coco([said] * 8, references)[1].tolist()]
    assert first == pytest.approx(theirs[0], abs=EXACT)
    assert max(range(8), key=first.__getitem__) == 3


def test_the_index_keeps_what_it_was_built_from_when_the_lists_change():
    references = [[["a", "dog"]], [["a", "cat"]]]
    index = CiderIndex(references)
    before = index.score(["a", "dog"], 0)
    references[0][0][1] = "bird"
    references.append([["dog"]])
    assert index.score(("a", "dog"), 0) == before > 0


@pytest.mark.parametrize("picture", [-1, 2])
def test_a_picture_that_is_not_there_is_named(picture):
    with pytest.raises(IndexError, match=f"2 pictures, from 0, and no picture {picture}"):
        CiderIndex([[["a"]], [["b"]]]).score(["a"], picture)


# --- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("captions", "references", "problem"),
    [
        ([], [], "no caption to score"),
        ([["a"], ["b"]], [[["a"]]], "each of the 2 captions its references, not 1 lists"),
        ([["a"], ["b"]], [[["a"]], []], "Caption 1 has no reference"),
        (["a dog"], [[["a"]]], "Cut caption 0 and its references into tokens: 'a dog'"),
        ([["a"]], ["a dog"], "into tokens: 'a dog'"),
        ([["a"]], [["a dog"]], "into tokens: 'a dog'"),
    ],
)
def test_what_cannot_be_scored_is_named(captions, references, problem):
    for score in (caption_scores, bleu):
        with pytest.raises(ValueError, match=problem):
            score(captions, references)


@pytest.mark.parametrize(
    ("references", "problem"), [([], "no caption"), ([[["a"]], []], "Caption 1 has no reference")]
)
def test_an_index_of_nothing_is_refused(references, problem):
    with pytest.raises(ValueError, match=problem):
        CiderIndex(references)


def test_rouge_l_without_a_reference_is_refused():
    with pytest.raises(ValueError, match="no reference"):
        rouge_l(["a"], [])


# --- the metric --------------------------------------------------------------------------------

PREDICTIONS = ["A dog isn't running.", "two cats (asleep)", "", "A man, a plan"]
REFERENCES = [
    ["a dog runs", "The dog isn't running!"],
    ["Two cats sleep."],
    ["a red car", "some car", "car!"],
    ["a man with a plan"],
]


def test_the_metric_cuts_captions_into_tokens_and_scores_them_offline(metric):
    result = metric.compute(predictions=PREDICTIONS, references=REFERENCES)
    assert set(result) == {
        *("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider", "cider_d", "cider_plain")
    }
    said = [ptb_tokenize(text) for text in PREDICTIONS]
    given = [[ptb_tokenize(text) for text in each] for each in REFERENCES]
    theirs, _ = coco(said, given)
    assert {name: result[name] for name in theirs} == pytest.approx(theirs, abs=EXACT)
    assert result["cider_d"] == result["cider"] != result["cider_plain"]
    assert all(type(score) is float for score in result.values())


def test_batches_give_what_one_call_gives(metric):
    whole = metric.compute(predictions=PREDICTIONS, references=REFERENCES)
    metric.add_batch(predictions=PREDICTIONS[:1], references=REFERENCES[:1])
    metric.add(prediction=PREDICTIONS[1], reference=REFERENCES[1])
    metric.add_batch(predictions=PREDICTIONS[2:], references=REFERENCES[2:])
    assert metric.compute() == whole


def test_the_metric_says_what_it_is(metric):
    assert metric.name == "caption_scores"
    assert "2015" in metric.citation
    assert set(metric.features) == {"predictions", "references"}


@pytest.mark.parametrize(
    ("predictions", "references", "problem"),
    [
        ([], [], "no caption to score"),
        (["a dog", "a cat"], [["a dog"], []], "Caption 1 has no reference"),
        (["a dog", "a cat"], [["a dog"]], "Mismatch in the number of predictions"),
    ],
)
def test_the_metric_names_what_it_cannot_score(metric, predictions, references, problem):
    with pytest.raises(ValueError, match=problem):
        metric.compute(predictions=predictions, references=references)
