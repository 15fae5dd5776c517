"""The linear part of the model of feelings, against scikit-learn's own way to the same."""

import numpy as np
import pytest
import torch
from helpers.emoji_data import FACES, TEXTS, tiny_emoji, write
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.svm import LinearSVC

from training.data.text_set import TextSet
from training.tasks.emoji import guesses
from training.tasks.linear_head import SCALE, SHARES, add_linear
from vqa import checkpoints
from vqa.data.text_dataset import open_texts
from vqa.metrics.functional.labels import macro_f1
from vqa.models import EmojiConfig, EmojiModel
from vqa.preprocessing.tweet_tokenizer import tokenize


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("texts") / "feelings")


@pytest.fixture
def model():
    tiny = tiny_emoji()
    config = EmojiConfig(len(tiny.words), {"face": 2}, word_dim=8, buckets=97, hidden_dim=8)
    return EmojiModel(config, tiny.words, {"face": tuple(FACES)}).eval()


def sets(data, model):
    return [TextSet({"face": open_texts(data, s, "face")}, model) for s in ("train", "validation")]


def words_and_pairs(text):
    words = [token.spelling for token in tokenize(text)]
    return [*words, *(f"{a} {b}" for a, b in zip(["", *words], words, strict=False))]


def test_it_adds_support_vector_machines_over_words_and_pairs(data, model):
    learnt, validation = sets(data, model)
    whole = add_linear(model, learnt, validation, c=10, min_count=2)
    texts, labels = zip(*TEXTS[::-1], strict=True)
    counter = CountVectorizer(analyzer=words_and_pairs, min_df=2)
    counts = counter.fit_transform(texts).toarray()
    assert whole.config.num_ngrams == counts.shape[1]
    idf = np.log((1 + len(texts)) / (1 + (counts > 0).sum(0))) + 1
    lengths = np.array([len(tokenize(text)) for text in texts])
    features = counts * idf / SCALE / np.sqrt(lengths)[:, None]
    machine = LinearSVC(C=10, random_state=0, max_iter=10_000).fit(features, labels)
    scores = machine.decision_function(features)  # there are as many of each label, so no weights
    added = (guesses(whole, learnt, "face")[0] - guesses(model, learnt, "face")[0]).numpy()
    share = SHARES[np.abs(SHARES - added[0, 1] / scores[0]).argmin()]
    assert share > 0
    np.testing.assert_allclose(added[:, 1], share * scores, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(added[:, 0], -share * scores, rtol=1e-2, atol=1e-2)


def test_its_share_is_the_best_on_validation(data, model, tmp_path):
    learnt, validation = sets(data, model)
    before, targets = guesses(model, validation, "face")
    truth = (targets > 0).numpy()
    whole = add_linear(model, learnt, validation, c=10, min_count=2)
    after, _ = guesses(whole, validation, "face")
    assert macro_f1(before.argmax(1).tolist(), truth) < 0.9
    assert macro_f1(after.argmax(1).tolist(), truth) == 1
    again = checkpoints.load_as(EmojiModel, checkpoints.save(whole, tmp_path / "emoji"))
    torch.testing.assert_close(guesses(again, validation, "face")[0], after, rtol=0, atol=0.02)


def test_without_a_word_that_is_often_enough_there_is_none(data, model):
    learnt, validation = sets(data, model)
    assert add_linear(model, learnt, validation, c=0.3, min_count=1000) is model
