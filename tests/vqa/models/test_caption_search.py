"""From numbers to captions: search, the two directions together, words, probabilities and maps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.tiny import tiny_captioner
from helpers.toy_captioners import PICTURES, learnt, said, unsure

from training.data.image_set import pad
from vqa.models import caption_search
from vqa.models.captioner import ATTENTION, DECODERS, END, Captioner, CaptionerConfig
from vqa.models.decoding import beam_search
from vqa.pipelines.captioning import CaptionPipeline
from vqa.preprocessing import images
from vqa.preprocessing.vocabulary import Vocab


@pytest.fixture(scope="module")
def two():
    return unsure("bilstm")


def look(model, count=3):
    pictures = PICTURES[:count]
    pixels = torch.cat([images.to_pixels(images.load(p), 64) for p in pictures])
    with torch.no_grad():
        grid = model.encode(pixels)
        return grid, model.project_image(grid.cells)


def one_way(model, seen, ids, direction):
    """Log probabilities of one caption's words and end, by one direction, one forward call.

    They are among what can be said: padding and unknown are not. A cut caption has no end.
    """
    first = Vocab.UNK + 1
    given = ids[::-1] if direction else ids
    with torch.no_grad():
        output = model(seen, torch.tensor([given]), torch.tensor([0]), direction)
    wanted = torch.tensor([*given, model.end]) - first
    found = output.logits[0, :, first:].log_softmax(1).gather(1, wanted.unsqueeze(1)).squeeze(1)
    words, end = found[:-1], found[-1:]
    end = end[: len(ids) < model.config.max_words]
    return torch.cat([words.flip(0) if direction else words, end]), output.attention


def test_two_directions_score_a_caption_by_their_mean(two):
    _, seen = look(two, 1)
    texts = [["there", "is", "a", "red", "square"], ["a", "square"]]
    ids = [two.words.encode(text) for text in texts]
    with torch.no_grad():
        found = caption_search.score(two, seen, pad(ids, Vocab.PAD), torch.tensor([0, 0]))
    for row, caption in enumerate(ids):
        count = len(caption)
        (forward, ahead), (backward, behind) = (one_way(two, seen, caption, d) for d in (0, 1))
        assert not torch.allclose(forward, backward, atol=0.05)
        expected = (forward + backward) / 2
        torch.testing.assert_close(found.log_probs[row, : count + 1], expected)
        assert (found.log_probs[row, count + 1 :] == 0).all()
        maps = (ahead[0, :count] + behind[0, :count].flip(0)) / 2
        torch.testing.assert_close(found.attention[row, :count], maps)


def test_two_directions_choose_together_among_what_both_found(two):
    _, seen = look(two)
    found = caption_search.search(two, seen, width=4)
    options = {"end": two.end, "width": 4, "max_words": two.config.max_words}
    changed = 0
    for picture in range(3):
        candidates = {}
        for direction in range(2):
            with torch.no_grad():
                beams = beam_search(two.stepper(seen, direction), **options)
            for row, length in zip(beams.words[picture], beams.lengths[picture], strict=True):
                words = row[:length].tolist()[:: -1 if direction else 1]
                alone = type(seen)(*(part[picture : picture + 1] for part in seen))
                both = [one_way(two, alone, words, d)[0].sum() for d in range(2)]
                candidates[tuple(words)] = float(sum(both) / 2)
            changed += direction and beams.words[picture, 0, 0] != found.words[picture, 0, 0]
        assert len(candidates) > 4
        most = two.config.max_words
        ranked = sorted(candidates, key=lambda c: -candidates[c] / min(len(c) + 1, most))[:4]
        rows = zip(found.words[picture], found.lengths[picture], strict=True)
        assert [tuple(row[:length].tolist()) for row, length in rows] == ranked
        expected = [candidates[words] for words in ranked]
        assert found.log_probs[picture].tolist() == pytest.approx(expected, abs=1e-4)
    assert changed  # the search of one direction alone would have said something else


@pytest.mark.parametrize("decoder", DECODERS)
def test_alternatives_are_all_different_and_begin_as_they_are_told(decoder):
    caption_pipeline = CaptionPipeline(unsure(decoder))
    caption = caption_pipeline.caption(PICTURES[0], beam=8, start="There is")
    texts = [text for text, _ in caption.alternatives]
    assert len(texts) == len(set(texts)) == 8
    assert all(text.startswith("there is ") or text == "there is" for text in texts)
    assert texts[0] == caption.text
    assert caption.alternatives[0][1] == caption.log_prob
    drawn = caption_pipeline.caption(PICTURES[0], beam=4, start="a red", temperature=1.0)
    assert all(text.startswith("a red") for text, _ in drawn.alternatives)


@pytest.mark.parametrize("decoder", DECODERS)
def test_where_less_can_be_said_than_beams_follow_nothing_is_made_up(decoder):
    words = Vocab.build([["a", END]])
    config = tiny_captioner(decoder=decoder, max_words=2).config
    small = CaptionerConfig(**{**vars(config), "num_words": len(words)})
    torch.manual_seed(0)
    caption = CaptionPipeline(Captioner(small, words)).caption(PICTURES[0], beam=3)
    assert sorted(text for text, _ in caption.alternatives) == ["a", "a a"]


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("attention", ATTENTION)
def test_a_caption_has_a_probability_and_a_map_for_each_word(attention, decoder):
    model = unsure(decoder, attention)
    caption = CaptionPipeline(model).caption(PICTURES[0])
    assert caption.text == " ".join(caption.words)
    count = len(caption.words)
    assert count == len(caption.word_probs) >= 2
    assert all(0 < p < 1 for p in caption.word_probs)
    _, seen = look(model, 1)
    ids = model.words.encode(caption.words)
    ways = range(len(model.decoders))
    each = torch.stack([one_way(model, seen, ids, way)[0] for way in ways]).mean(0)
    assert len(each) == count + 1 < model.config.max_words
    assert caption.word_probs == pytest.approx(each[:-1].exp().tolist(), rel=1e-4)
    assert caption.log_prob == pytest.approx(each.sum().item(), abs=1e-4)
    if attention == "none":
        assert caption.attention is None
        return
    assert caption.attention.shape == (count, 4, 4)
    assert caption.attention.dtype == np.float32
    sums = caption.attention.sum((1, 2))
    assert (sums <= 1 + 1e-5).all()
    if attention == "soft":
        assert sums == pytest.approx(np.ones(count), abs=1e-5)
    apart = np.abs(caption.attention[1:] - caption.attention[:-1]).max((1, 2))
    assert (apart > 1e-5).all()


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_model_that_learnt_pictures_by_heart_repeats_their_captions(decoder, beam):
    caption_pipeline = CaptionPipeline(learnt(decoder))
    captions = caption_pipeline.caption_batch(PICTURES, beam=beam)
    assert [caption.text for caption in captions] == said()
    assert all(caption.log_prob > -0.5 for caption in captions)


def test_a_caption_of_improbable_words_is_unsure(two):
    grid, seen = look(two, 1)
    found = caption_search.search(two, seen, width=2)
    with torch.no_grad():
        (caption,) = caption_search.describe(two, grid, seen, found)
    mean = sum(caption.word_probs) / len(caption.word_probs)
    before = two.config
    for threshold, unsure_now in ((mean - 1e-6, False), (mean + 1e-6, True)):
        two.config = replace(before, unsure_below=threshold)
        with torch.no_grad():
            (caption,) = caption_search.describe(two, grid, seen, found)
        assert caption.unsure is unsure_now
        assert caption.statement.startswith("I am not sure") is unsure_now
        assert caption.statement.endswith(caption.text)
    two.config = before
