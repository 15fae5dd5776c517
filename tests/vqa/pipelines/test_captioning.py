"""Captions through the engine, and why each of their words is said."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from helpers.tiny import draw, tiny_answerer, tiny_captioner
from helpers.toy_captioners import PICTURES, unsure

from saliency.registry import METHODS, explain, explains
from saliency.types import CannotExplain
from vqa.engine import Engine
from vqa.errors import BadImage, BadText
from vqa.models.captioner import DECODERS, END
from vqa.pipelines.captioning import MAX_BEAM, CaptionPipeline
from vqa.scorers.native import CaptionScorer

PICTURE = draw("red", "square")
CHEAP = {
    "smoothgrad": {"samples": 2},
    "integrated_gradients": {"steps": 2},
    "occlusion": {"window": 32, "stride": 32},
    "lime": {"samples": 20},
}


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_batch_of_pictures_is_described_like_single_ones(decoder):
    caption_pipeline = CaptionPipeline(unsure(decoder))
    together = caption_pipeline.caption_batch(PICTURES, beam=3)
    for picture, caption in zip(PICTURES, together, strict=True):
        alone = caption_pipeline.caption(picture, beam=3)
        assert [t for t, _ in alone.alternatives] == [t for t, _ in caption.alternatives]
        assert alone.word_probs == pytest.approx(caption.word_probs, rel=1e-4)
        assert np.allclose(alone.attention, caption.attention, atol=1e-5)
    assert caption_pipeline.caption_batch([]) == []


def test_captions_are_drawn_by_a_seed_and_bolder_when_cold():
    caption_pipeline = CaptionPipeline(unsure())

    def texts(seed, temperature):
        drawn = caption_pipeline.caption(PICTURE, beam=20, temperature=temperature, seed=seed)
        return drawn.text, drawn.alternatives

    assert texts(1, 1.0) == texts(1, 1.0) != texts(2, 1.0)
    assert len(texts(1, 0.2)[1]) < len(texts(1, 1.0)[1]) > 10
    assert texts(1, 0.01)[0] == caption_pipeline.caption(PICTURE, beam=1).text


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"beam": 0}, ValueError, "beam is 0; it can be 1 to 20"),
        ({"beam": MAX_BEAM + 1}, ValueError, "beam is 21"),
        ({"temperature": -1.0}, ValueError, r"temperature is -1.0; it can be 0, or 0.01"),
        ({"temperature": float("nan")}, ValueError, "temperature is nan"),
        ({"start": "a zebra"}, BadText, "does not know zebra"),
        ({"start": "a " * 10}, BadText, "The start has 10 words"),
        ({"model": "other"}, ValueError, "no captioner 'other'; there are: words"),
        ({"picture": b"no picture"}, BadImage, "."),
    ],
)
def test_what_cannot_be_asked_for_is_named_and_the_engine_goes_on(options, error, message):
    engine = Engine(tiny_answerer(), {"words": tiny_captioner()})
    with pytest.raises(error, match=message):
        engine.caption(**{"picture": PICTURE, **options})
    assert engine.caption(PICTURE).text


def test_an_engine_without_captioners_says_so(tiny_checkpoint):
    engine = Engine.load(tiny_checkpoint)
    for call in (engine.caption, engine.explain_caption):
        with pytest.raises(ValueError, match=r"there are: none: load the engine with captioners"):
            call(PICTURE)


def test_captioners_are_loaded_beside_the_answerer_and_asked_for_by_name(
    tiny_checkpoint, tiny_captioner_checkpoint
):
    name = str(tiny_captioner_checkpoint)
    engine = Engine.load(tiny_checkpoint, [name])
    assert engine.caption(PICTURE).text == engine.caption(PICTURE, model=name).text
    assert engine.caption(PICTURE).text == CaptionPipeline(tiny_captioner()).caption(PICTURE).text


def test_the_first_captioner_is_asked_and_each_has_its_own_pictures():
    models = {"words": unsure(), "both": unsure("bilstm", seed=1)}
    engine = Engine(tiny_answerer(), models)
    calls = {name: [] for name in models}
    for name, model in models.items():
        model.encoder.register_forward_hook(lambda *_, name=name: calls[name].append(1))
    first = engine.caption(PICTURE)
    again = engine.caption(PICTURE, beam=1, start="a")
    assert again.text.startswith("a")
    assert {name: len(made) for name, made in calls.items()} == {"words": 1, "both": 0}
    other = engine.caption(PICTURE, model="both")
    assert other.text != first.text == engine.caption(PICTURE, model="words").text
    assert {name: len(made) for name, made in calls.items()} == {"words": 1, "both": 1}
    engine.caption(draw("blue", "circle"))
    assert len(calls["words"]) == 2


def test_threads_describe_like_a_single_thread_also_while_one_explains():
    jobs = [(draw(c, s), beam) for c in ("red", "blue") for s in ("square",) for beam in (1, 3)] * 4
    engine = Engine(tiny_answerer(), {"words": unsure()})
    alone = [engine.caption(p, beam=beam).alternatives for p, beam in jobs]
    fresh = Engine(tiny_answerer(), {"words": unsure()})
    barrier = threading.Barrier(8)

    def describe(job):
        barrier.wait(timeout=60)
        return fresh.caption(job[0], beam=job[1]).alternatives

    with ThreadPoolExecutor(9) as pool:
        maps = pool.submit(fresh.explain_caption, PICTURE, "a red square")
        assert list(pool.map(describe, jobs)) == alone
    assert len(maps.result()) == 3


def test_a_caption_s_scores_are_the_log_probabilities_of_its_words():
    model = unsure("bilstm")
    engine = Engine(tiny_answerer(), {"words": model})
    caption = engine.caption(PICTURE)
    scorer = engine.caption_pipeline().scorer(caption.text)
    assert scorer.words == caption.words
    pixels = engine.caption_pipeline().pixels(PICTURE)
    with torch.no_grad():
        scores, maps = scorer(pixels), scorer.attention(pixels)
    assert scorer.probabilities(scores)[0].tolist() == pytest.approx(caption.word_probs, rel=1e-4)
    assert np.allclose(maps[0].numpy(), caption.attention, atol=1e-6)
    others = torch.cat([pixels, 1 - pixels, pixels.flip(2)])
    with torch.no_grad():
        together = scorer(others)
        for row in range(3):
            torch.testing.assert_close(scorer(others[row : row + 1])[0], together[row])
        assert not torch.allclose(together[0], together[1], atol=1e-3)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_explains_every_word_in_one_call(method, decoder):
    engine = Engine(tiny_answerer(), {"words": unsure(decoder)})
    caption = engine.caption(PICTURE)
    found = engine.explain_caption(PICTURE, method=method, **CHEAP.get(method, {}))
    assert tuple(e.label for e in found) == caption.words
    assert [e.target for e in found] == list(range(len(caption.words)))
    assert [np.exp(e.score) for e in found] == pytest.approx(list(caption.word_probs), rel=1e-4)
    maps = np.stack([e.map for e in found])
    assert maps.shape == (len(found), 64, 64)
    assert np.isfinite(maps).all()
    peak = np.abs(maps).max()
    for place, one in enumerate(maps):
        assert all(np.abs(one - other).max() > 1e-4 * peak for other in maps[:place])


def test_some_words_of_any_caption_can_be_explained():
    engine = Engine(tiny_answerer(), {"words": unsure()})
    text = "There is a blue circle."
    every = engine.explain_caption(PICTURE, text, "gradient")
    assert [e.label for e in every] == ["there", "is", "a", "blue", "circle"]
    some = engine.explain_caption(PICTURE, text, "gradient", words=[4, 3])
    assert [(e.label, e.target) for e in some] == [("circle", 4), ("blue", 3)]
    for one, place in zip(some, (4, 3), strict=True):
        assert np.allclose(one.map, every[place].map, rtol=1e-4, atol=1e-7)
    with pytest.raises(ValueError, match="5"):
        engine.explain_caption(PICTURE, text, words=[5])


def test_a_captioner_without_attention_shows_none_and_says_so():
    engine = Engine(tiny_answerer(), {"words": unsure(attention="none")})
    scorer = engine.caption_pipeline().scorer("a red square")
    assert not explains(scorer, "attention")
    assert explains(scorer, "grad_cam")
    with pytest.raises(CannotExplain, match="attention"):
        engine.explain_caption(PICTURE, "a red square", "attention")
    pixels = engine.caption_pipeline().pixels(PICTURE)
    assert len(explain(scorer, pixels, [0, 1, 2], "grad_cam")) == 3


@pytest.mark.parametrize(
    ("caption", "message"),
    [
        ("", "The caption has 0 words; it can have 1 to 10"),
        (" . ", "The caption has 0 words"),
        ("a " * 11, "The caption has 11 words"),
        ("a red zebra", "does not know zebra"),
        (["a", END], "does not know <end>"),
    ],
)
def test_a_caption_that_cannot_be_scored_is_refused_with_the_reason(caption, message):
    with pytest.raises(BadText, match=message):
        CaptionScorer(tiny_captioner(), caption)
    assert CaptionScorer(tiny_captioner(), "a " * 10).words == ("a",) * 10
