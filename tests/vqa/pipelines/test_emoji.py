"""The model of feelings, its calls, and what its words count for."""

import threading

import numpy as np
import pytest
import torch
from captum.attr import LayerIntegratedGradients
from helpers.emoji_data import FACES, TEXTS, tiny_emoji
from torch import nn

from saliency.tokens import TOKEN_METHODS, explain_tokens
from vqa import checkpoints
from vqa.emoji_labels import EMOJI, UNKNOWN, emoji_of
from vqa.errors import BadText
from vqa.models import EmojiConfig, EmojiModel
from vqa.models.emoji import Phrases
from vqa.pipelines.emoji import EmojiPipeline
from vqa.preprocessing.tweet_tokenizer import MAX_CHARACTERS, tokenize
from vqa.preprocessing.vocabulary import Vocab

MIXED = [*(text for text, _ in TEXTS), "", "never seen zzz 😀", "so " * 300, "happy", "م"]


@pytest.fixture(scope="module")
def emoji_pipeline():
    return EmojiPipeline(tiny_emoji())


def test_many_texts_feel_as_each_does_alone(emoji_pipeline):
    together = emoji_pipeline.feel_batch(MIXED, "mood", batch_size=7)
    assert len(together) == len(MIXED)
    for text, found in zip(MIXED, together, strict=True):
        alone = emoji_pipeline.emoji(text, "mood")
        assert alone.label == found.label
        assert alone.probability == pytest.approx(found.probability, abs=1e-6)
        assert [word for word, _ in alone.word_weights] == [word for word, _ in found.word_weights]


def test_a_feeling_is_whole(emoji_pipeline):
    text = "So HAPPY today ❤️"
    found = emoji_pipeline.emoji(text, "face", k=1)
    assert found.label in FACES
    assert found.emoji == found.label
    assert len(found.top) == 1
    assert [word for word, _ in found.word_weights] == ["So", "HAPPY", "today", "❤️"]
    assert sum(weight for _, weight in found.word_weights) == pytest.approx(1, abs=1e-5)
    both = emoji_pipeline.emoji(text, "face")
    assert sum(p for _, p in both.top) == pytest.approx(1, abs=1e-5)
    assert both.top[0][1] == both.probability >= both.top[1][1]


def test_any_text_feels_like_something(emoji_pipeline):
    for text in ("", "\u202e", "a" * MAX_CHARACTERS, "😀" * 2000, "\ud800"):
        assert 0 < emoji_pipeline.emoji(text, "face").probability <= 1
    assert emoji_pipeline.emoji("", "face").word_weights == ()
    with pytest.raises(BadText, match="10,001 characters and the limit is 10,000"):
        emoji_pipeline.emoji("a" * (MAX_CHARACTERS + 1), "face")
    with pytest.raises(ValueError, match="no head 'emoji'; there are: face, mood"):
        emoji_pipeline.emoji("hello", "emoji")
    assert emoji_pipeline.emoji("hello") == emoji_pipeline.emoji("hello", "face")
    assert emoji_pipeline.feel_batch([], "face") == []


def test_word_weights_follow_the_words_characters():
    model = tiny_emoji()
    vectors = model.embed(model.phrases([tokenize("happy happyish zzz")]))[0]
    near, far = ((vectors[0] - vectors[i]).norm() for i in (1, 2))
    assert near < far  # neither is known as a word


def test_labels_that_are_words_have_an_emoji():
    assert emoji_of("🇺🇸") == "🇺🇸"
    assert emoji_of("joy") == emoji_of("Joy") == EMOJI["joy"]
    assert emoji_of("schadenfreude") == UNKNOWN
    assert len(set(EMOJI)) == 28


def test_a_saved_model_feels_the_same(tmp_path, emoji_pipeline):
    emoji_pipeline.model.temperatures["face"].fill_(1.7)
    again = checkpoints.load_as(
        EmojiModel, checkpoints.save(emoji_pipeline.model, tmp_path / "emoji")
    )
    checkpoints.to_storage_precision(emoji_pipeline.model)
    assert EmojiPipeline(again).feel_batch(MIXED, "face") == emoji_pipeline.feel_batch(
        MIXED, "face"
    )
    with pytest.raises(ValueError, match="the vocabulary has"):
        EmojiModel(EmojiConfig(3, {"face": 2}), Vocab(Vocab.SPECIAL), {"face": tuple(FACES)})
    with pytest.raises(ValueError, match="two labels or more"):
        EmojiConfig(2, {"face": 1})


def test_threads_share_one_feeler(emoji_pipeline):
    expected, found = emoji_pipeline.feel_batch(MIXED, "mood"), [None] * 4

    def feel(place):
        found[place] = emoji_pipeline.feel_batch(MIXED, "mood")

    threads = [threading.Thread(target=feel, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one == expected for one in found)


class Words(nn.Module):
    """The model as captum wants it: from word numbers to logits, by an embedding layer."""

    def __init__(self, model, phrases, head):
        super().__init__()
        self.model, self.phrases, self.head = model, phrases, head
        self.layer = nn.Embedding.from_pretrained(
            torch.cat([torch.zeros(1, model.config.word_dim + 4), model.embed(phrases)[0]])
        )

    def forward(self, places):
        lengths = torch.full((len(places),), places.shape[1])
        return self.model.logits(
            self.model.text_features(self.layer(places), lengths)[0], self.head
        )


@pytest.mark.parametrize("text", ["i am happy today", "sad", "what a lovely awful 😀 zzz"])
def test_integrated_gradients_are_captums(emoji_pipeline, text):
    emoji_pipeline.model.double()
    try:
        phrases = emoji_pipeline.model.phrases([tokenize(text)])
        words = Words(emoji_pipeline.model, phrases, "mood").eval()
        count = phrases.ids.shape[1]
        places = torch.arange(1, count + 1)[None]
        captum = LayerIntegratedGradients(words, words.layer).attribute(
            places, torch.zeros_like(places), target=1, n_steps=20, method="gausslegendre"
        )
        scorer = emoji_pipeline.scorer("mood").double()
        found = TOKEN_METHODS["integrated_gradients"][0](
            scorer, emoji_pipeline.model.embed(phrases), [1], steps=20
        )
    finally:
        emoji_pipeline.model.float()
    expected = captum.sum(2)[0]
    torch.testing.assert_close(found.values[0], expected, rtol=0, atol=1e-6 * expected.abs().max())


def test_pushes_add_up_to_the_rise(emoji_pipeline):
    vectors, scorer = emoji_pipeline.vectors("i am happy today"), emoji_pipeline.scorer("face")
    for found in explain_tokens(scorer, vectors, [0, 1], steps=400):
        assert found.pushes.shape == (4,)
        assert found.details["completeness_error"] < 1e-2
        with torch.no_grad():
            rise = scorer(vectors) - scorer(torch.zeros_like(vectors))
        assert found.pushes.sum() == pytest.approx(float(rise[0, found.target]), rel=1e-2)


def test_leaving_one_out_is_what_it_says(emoji_pipeline):
    text = "i am happy today"
    scorer = emoji_pipeline.scorer("mood")
    (found,) = explain_tokens(scorer, emoji_pipeline.vectors(text), [0], "leave_one_out")
    with torch.no_grad():
        whole = scorer(emoji_pipeline.vectors(text))[0, 0]
        for place, push in enumerate(found.pushes):
            others = [i for i in range(len(found.pushes)) if i != place]
            less = scorer(emoji_pipeline.vectors(text)[:, others])[0, 0]
            assert push == pytest.approx(float(whole - less), abs=1e-5)
    (one,) = explain_tokens(scorer, emoji_pipeline.vectors("happy"), [0], "leave_one_out")
    assert one.pushes.shape == (1,)


def test_on_a_linear_scorer_both_methods_know_the_answer():
    class Linear(nn.Module):
        def forward(self, vectors):
            return vectors.sum(dim=(1, 2))[:, None] * torch.tensor([[2.0, -1.0]])

    vectors = torch.tensor([[[1.0, 0.5], [-3.0, 0.0], [0.0, 0.25]]])
    for method in TOKEN_METHODS:
        found = explain_tokens(Linear(), vectors, [0, 1], method)
        np.testing.assert_allclose(found[0].pushes, [3, -6, 0.5], atol=1e-5)
        np.testing.assert_allclose(found[1].pushes, [-1.5, 3, -0.25], atol=1e-5)


@pytest.mark.parametrize("method", TOKEN_METHODS)
def test_explaining_leaves_everything_as_it_was(emoji_pipeline, method):
    vectors, scorer = emoji_pipeline.vectors("so glad"), emoji_pipeline.scorer("face").train()
    before = {name: tensor.clone() for name, tensor in scorer.state_dict().items()}
    random = torch.get_rng_state()
    with torch.no_grad():
        first = explain_tokens(scorer, vectors, [1], method)
        second = explain_tokens(scorer, vectors, [1], method)
    assert np.array_equal(first[0].pushes, second[0].pushes)
    assert scorer.training
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(before[n], t) for n, t in scorer.state_dict().items())
    assert all(parameter.grad is None for parameter in scorer.parameters())
    scorer.eval()


def test_what_cannot_be_explained_is_named(emoji_pipeline):
    scorer, vectors = emoji_pipeline.scorer("face"), emoji_pipeline.vectors("so glad")
    with pytest.raises(ValueError, match="no method 'lime'; there are: integrated"):
        explain_tokens(scorer, vectors, [0], "lime")
    with pytest.raises(ValueError, match="target 2 is none of the 2 scores"):
        explain_tokens(scorer, vectors, [2])
    with pytest.raises(ValueError, match=r"one text is \(1, T, D\), this is \(2, 12\)"):
        explain_tokens(scorer, vectors[0], [0])
    with pytest.raises(ValueError, match="steps is 0"):
        explain_tokens(scorer, vectors, [0], steps=0)


def test_the_linear_part_adds_what_known_words_and_pairs_have(emoji_pipeline):
    model = emoji_pipeline.model
    phrases = model.phrases([tokenize("so sad"), tokenize("so zzz today")])
    assert (phrases.ngrams > 0).tolist() == [
        [[True, True], [True, True], [False, False]],
        [[True, True], [False, False], [True, False]],
    ]
    before = model(phrases, "mood")[0]
    with torch.no_grad():
        row = model.wide.weight[phrases.ngrams[0, 1, 1]]  # "so sad"
        row += torch.tensor([0.0, 0.0, 3.0, -1.0])  # face's two labels, then mood's
        after = model(phrases, "mood")[0]
        row -= torch.tensor([0.0, 0.0, 3.0, -1.0])
    expected = torch.tensor([[3.0, -1.0], [0.0, 0.0]]) / 2**0.5
    torch.testing.assert_close(after - before, expected)


def test_dropped_words_are_dropped_in_training_alone():
    model = tiny_emoji()
    phrases = model.phrases([tokenize("i am happy today")] * 50)
    assert isinstance(phrases, Phrases)
    assert (model.embed(phrases) != 0).any(-1).all()
    model.train()
    seen = (model.embed(phrases) != 0).any(-1).float().mean()
    assert 0.8 < float(seen) < 0.97
