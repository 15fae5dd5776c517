"""Which captions get a warning, and how the threshold is set."""

import pytest
from helpers.tiny import tiny_captioner

from training.data.caption_set import read_corpus
from training.tasks.caption_doubt import doubt_threshold, fit_doubt


def test_the_highest_threshold_is_taken_below_which_half_are_wrong():
    certainties = [place / 40 for place in range(40)]
    wrong = [place < 12 or place in (14, 15) for place in range(40)]
    # 14 of the first 28 are wrong, and of the first 29 less than half.
    assert doubt_threshold(certainties, wrong) == pytest.approx(28 / 40)
    assert doubt_threshold(certainties, [False] * 40) == 0
    # Nine captions are too few to tell.
    assert doubt_threshold(certainties[:9], [True] * 9) == 0


def test_equal_certainties_get_the_same_warning():
    assert doubt_threshold([0.1] * 12 + [0.5] * 30, [True] * 12 + [False] * 30) == 0.5
    assert doubt_threshold([0.5] * 30, [True] * 20 + [False] * 10) == 0


def test_the_threshold_stands_in_the_config_and_captions_below_it_are_unsure(
    tiny_data, monkeypatch
):
    model, corpus = tiny_captioner(), read_corpus(str(tiny_data), "train")
    monkeypatch.setattr(
        "training.tasks.caption_doubt.doubt_threshold", lambda certainties, wrong: 1.0
    )
    fit_doubt(model, corpus)
    assert model.config.unsure_below == 1.0
    monkeypatch.undo()
    fit_doubt(model, corpus)  # eight pictures tell nothing
    assert model.config.unsure_below == 0.0
