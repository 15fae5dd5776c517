"""A hidden part and a second answer, people's gaze beside the model's, and both in words."""

import re

import numpy as np
import pytest
import torch
from helpers.tiny import draw, gaze_rows, tiny_answerer, tiny_gaze

from ui.presenters import conversation
from ui.presenters import gaze as gaze_presenter
from ui.presenters.answers import trusts
from ui.sections import evidence_panel, whatif
from vqa.engine import Engine
from vqa.pipelines.gaze import GazePipeline
from vqa.serving import serialize

PICTURE = draw("red", "square")
QUESTION = "what color is it?"


@pytest.fixture(scope="module")
def engine():
    return Engine(tiny_answerer(), {}, tiny_gaze())


def test_hiding_nothing_changes_nothing(engine):
    found = engine.what_if(PICTURE, QUESTION, np.zeros((10, 10)))
    assert found.share == 0
    assert torch.equal(found.pixels, engine.pixels(PICTURE))
    assert found.before.top == engine.answer(PICTURE, QUESTION).top
    for (one, p), (other, q) in zip(found.before.top, found.after.top, strict=True):
        assert one == other
        assert p == pytest.approx(q, abs=1e-6)


def test_what_is_hidden_takes_the_mean_colour_and_the_rest_stays(engine):
    hidden = np.zeros((4, 4), bool)
    hidden[0, 3] = hidden[1, 3] = True
    found = engine.what_if(PICTURE, QUESTION, hidden)
    assert found.share == pytest.approx(2 / 16)
    pixels = engine.pixels(PICTURE)
    mean = pixels.mean(dim=(2, 3))[0]
    torch.testing.assert_close(found.pixels[0, :, 5, 60], mean)
    torch.testing.assert_close(found.pixels[0, :, 31, 48], mean)
    assert torch.equal(found.pixels[..., 32:, :], pixels[..., 32:, :])
    assert torch.equal(found.pixels[..., :48], pixels[..., :48])
    assert found.before.top != found.after.top


@pytest.mark.parametrize("hidden", [np.zeros(3), np.zeros((0, 4)), np.zeros((1, 2, 2))])
def test_hidden_must_be_a_map(engine, hidden):
    with pytest.raises(ValueError, match=r"hidden must be an array \(H, W\)"):
        engine.what_if(PICTURE, QUESTION, hidden)


def test_gaze_is_the_gaze_models_or_the_answerers_own(engine):
    found = engine.gaze(PICTURE)
    assert found.shape == (64, 64)
    assert found.sum() == pytest.approx(1, abs=1e-5)
    with pytest.raises(ValueError, match="there is no gaze model"):
        Engine(tiny_answerer()).gaze(PICTURE)
    own = Engine(tiny_answerer(gaze=tiny_gaze().config, fusion="gated"))
    assert np.array_equal(own.gaze(PICTURE), GazePipeline(own.answerer.gaze).maps([PICTURE])[0])


def test_an_answer_tells_how_far_gaze_was_trusted(engine, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(PICTURE)
    assert engine.answer(PICTURE, QUESTION).gaze_trust is None
    own = Engine(tiny_answerer(gaze=tiny_gaze().config, fusion="gated"))
    found = own.answer(PICTURE, QUESTION)
    assert found.gaze_trust == pytest.approx(0.3)
    assert serialize.answer(found)["gaze_trust"] == found.gaze_trust
    turn = conversation.reply(own, str(path), QUESTION)
    assert evidence_panel.layers(turn)["trust"].startswith("Gaze trust 0.30: ")
    assert own.answer_batch([PICTURE], [[QUESTION]])[0][0].gaze_trust == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("trust", "words"),
    [
        (None, ""),
        (0.4, "Gaze trust 0.40: for this question the model looks where people would look."),
        (-0.4, "Gaze trust -0.40: for this question the model looks away from where people would"),
        (0.04, "Gaze trust 0.04: for this question the model hardly minds where people would"),
    ],
)
def test_trust_in_words(trust, words):
    assert trusts(trust).startswith(words)
    assert bool(trusts(trust)) == bool(words)


def test_squares_from_the_browser_are_a_mask_and_nonsense_is_left_out():
    mask = whatif.mask([0, 11, 99, 100, -1, "3", None, 2.5])
    assert mask.shape == (whatif.CELLS, whatif.CELLS)
    assert np.argwhere(mask).tolist() == [[0, 0], [1, 1], [9, 9]]
    assert not whatif.mask("nonsense").any()
    assert not whatif.mask(None).any()


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (("dog", 0.3), "leaves the answer *dog* (54% → 30%)."),
        (("cat", 0.4), "changes the answer from *dog* to *cat*; *dog* has 12% left."),
        (("a*", 0.4), r"to *a\**; *dog* has 12% left."),
    ],
)
def test_what_hiding_did_in_words(after, said):
    line = whatif.line(0.07, ("dog", 0.54), after, {after[0]: after[1], "dog": 0.12})
    assert line.startswith("Hiding 7% of the picture ")
    assert line.endswith(said)


def test_an_answer_that_is_gone_is_said_so():
    line = whatif.line(0.07, ("dog", 0.54), ("cat", 0.4), {"cat": 0.4})
    assert line.endswith("; *dog* is no longer among the guesses.")


@pytest.mark.parametrize(
    ("moved", "words"),
    [(0, "much the same places as people would"), (32, "other places than people would")],
)
def test_people_and_model_are_compared_in_words(engine, moved, words):
    found = engine.answer(gaze_rows()[0]["image"]["bytes"], QUESTION)
    people = np.kron(found.attention, np.ones((16, 16), np.float32))
    people = np.roll(people / people.sum(), moved, axis=(0, 1))
    told = gaze_presenter.compared(people, found)
    assert words in told
    if not moved:
        assert re.search(r"correlation 1\.00, and (100|>99)% of the looks in common\.", told)
