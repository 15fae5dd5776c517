"""The captioner: its steps equal its training, its attention, its checkpoints, what it refuses."""

import json
from dataclasses import replace

import pytest
import torch
from helpers.tiny import tiny_captioner

from vqa import checkpoints
from vqa.errors import BadCheckpoint, BadText
from vqa.models import Answerer, Captioner
from vqa.models.caption_search import draw, search
from vqa.models.captioner import ATTENTION, DECODERS, END, mirror, reverse
from vqa.models.encoder import CELL_LENGTH
from vqa.preprocessing.question_text import MAX_CHARACTERS
from vqa.preprocessing.vocabulary import Vocab


def cells(model, count=2, seed=0):
    random = torch.Generator().manual_seed(seed)
    seen = torch.randn(count, 16, model.encoder.channels, generator=random).relu()
    return CELL_LENGTH * torch.nn.functional.normalize(seen, dim=2)


@torch.no_grad()
def look(model, count=2, seed=0):
    return model.project_image(cells(model, count, seed))


def captions(model, *texts):
    """Captions as padded rows of word numbers."""
    rows = [model.words.encode(text.split()) for text in texts]
    longest = max(map(len, rows))
    return torch.tensor([row + [Vocab.PAD] * (longest - len(row)) for row in rows])


@torch.no_grad()
def read(model, *texts, owner=None, direction=0, pad=0):
    ids = torch.nn.functional.pad(captions(model, *texts), (0, pad))
    owner = torch.zeros(len(texts), dtype=torch.long) if owner is None else torch.tensor(owner)
    return model(look(model), ids, owner, direction)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("attention", ATTENTION)
def test_words_one_by_one_score_like_a_whole_caption(attention, decoder, tied):
    model = tiny_captioner(attention=attention, decoder=decoder, tied=tied)
    assert len(model.decoders) == DECODERS.index(decoder) + 1
    for direction in range(len(model.decoders)):
        ids = captions(model, "there is a red circle on the left", "a blue square is red a a the")
        with torch.no_grad():
            whole = model(look(model), ids, torch.tensor([0, 1]), direction).logits
            stepper = model.stepper(look(model), direction)
            state, said = stepper.start(1), torch.full((2, 1), model.end)
            for place in range(ids.shape[1] + 1):
                logits, state = stepper.step(said, state)
                torch.testing.assert_close(logits[:, 0, 2:], whole[:, place, 2:], rtol=0, atol=1e-5)
                assert (logits[:, 0, [Vocab.PAD, Vocab.UNK]] == -torch.inf).all()
                said = ids[:, place : place + 1] if place < ids.shape[1] else said
    assert whole[0].std() > 0.01  # they tell words apart
    assert (whole[0, 0] - whole[1, 0]).abs().max() > 0.01  # and pictures


def test_several_beams_step_like_one():
    model = tiny_captioner()
    stepper = model.stepper(look(model, 3))
    words = torch.tensor([[3, 4], [5, 6], [7, 3]])
    with torch.no_grad():
        together, (hidden, cell) = stepper.step(words, stepper.start(2))
        for beam in range(2):
            alone, state = stepper.step(words[:, beam : beam + 1], stepper.start(1))
            torch.testing.assert_close(alone[:, 0], together[:, beam], rtol=0, atol=1e-6)
            torch.testing.assert_close(state[0][:, 0], hidden[:, beam], rtol=0, atol=1e-6)
            torch.testing.assert_close(state[1][:, 0], cell[:, beam], rtol=0, atol=1e-6)


@pytest.mark.parametrize("direction", [0, 1])
def test_padding_and_the_captions_beside_change_nothing(direction):
    model = tiny_captioner(decoder="bilstm")
    texts = ("a red square", "there is a blue circle")
    together = read(model, *texts, owner=[1, 0], direction=direction, pad=4)
    for row, text in enumerate(texts):
        alone = read(model, text, owner=[1 - row], direction=direction)
        count = len(text.split()) + 1
        assert alone.logits.shape == (1, count, len(model.words))
        for one, all_of_them in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], all_of_them[row, :count], rtol=0, atol=1e-5)


def test_a_word_is_scored_before_it_is_read():
    model = tiny_captioner()
    one, other = (read(model, f"a {word} square").logits for word in ("red", "blue"))
    assert torch.equal(one[:, :2], other[:, :2])
    assert not torch.allclose(one[:, 2:], other[:, 2:], atol=1e-3)


def test_soft_attention_sums_to_one_adaptive_to_less_and_none_has_none():
    text = "there is a red square on the left"
    assert read(tiny_captioner(attention="none"), text).attention is None
    soft = read(tiny_captioner(attention="soft"), text).attention
    assert soft.shape == (1, 9, 16)
    torch.testing.assert_close(soft.sum(2), torch.ones(1, 9))
    adaptive = read(tiny_captioner(attention="adaptive"), text).attention
    assert (adaptive >= 0).all()
    assert (adaptive.sum(2) < 1).all()
    assert (adaptive.sum(2) > 0).all()
    assert adaptive.sum(2).std() > 1e-4  # some words look more than others


@torch.no_grad()
def test_adaptive_attention_is_soft_attention_with_one_more_place_to_look_at():
    model = tiny_captioner()
    decoder, seen = model.decoders[0], look(model).cells[:1]
    state = torch.randn(1, 1, 32, generator=torch.Generator().manual_seed(1))
    known = decoder.sentinel(state).relu()  # the sentinel, beside the cells
    query = decoder.query(state) / model.config.attention_dim**0.5
    places = torch.cat([seen, known], dim=1)
    shares = (query @ places.transpose(1, 2)).softmax(2)
    expected = decoder.merge(torch.cat([state, shares @ places], dim=2)).tanh()
    found, attention = decoder.attend(state, seen)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(attention, shares[..., :-1])


def test_captions_are_turned_around_without_their_padding():
    ids = torch.tensor([[5, 6, 7, 0], [8, 0, 0, 0], [1, 2, 3, 4], [0, 0, 0, 0]])
    turned = [[7, 6, 5, 0], [8, 0, 0, 0], [4, 3, 2, 1], [0, 0, 0, 0]]
    assert reverse(ids).tolist() == turned
    assert torch.equal(reverse(reverse(ids)), ids)
    places = mirror(torch.tensor([3, 0, 2]), 4)
    assert places.tolist() == [[2, 1, 0, 3], [0, 1, 2, 3], [1, 0, 2, 3]]


@pytest.mark.parametrize("decoder", DECODERS)
def test_padding_and_the_unknown_word_are_never_said(decoder):
    model = tiny_captioner(decoder=decoder)
    with torch.no_grad():
        model.say.bias[[Vocab.PAD, Vocab.UNK]] += 50.0
        found = search(model, look(model, 4), width=3)
        drawn = draw(model, look(model, 4), count=3)
    for some in (found, drawn):
        for words, length in zip(some.words.flatten(0, 1), some.lengths.flatten(), strict=True):
            assert length >= 1
            assert (words[:length] > Vocab.UNK).all()
            assert (words[length:] == Vocab.PAD).all()
            assert model.end not in words


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("attention", "hard", "attention is 'hard'; it can be none, soft, adaptive"),
        ("decoder", "gru", "decoder is 'gru'; it can be lstm, bilstm"),
    ],
)
def test_an_option_that_is_none_is_named_with_those_that_are(field, value, message):
    with pytest.raises(ValueError, match=message):
        tiny_captioner(**{field: value})


def test_a_vocabulary_that_does_not_fit_is_refused():
    model = tiny_captioner()
    size = len(model.words)
    with pytest.raises(ValueError, match=f"has {size} words, the config says {size + 1}"):
        Captioner(replace(model.config, num_words=size + 1), model.words)
    endless = Vocab.build([["a", "red", "square"]])
    with pytest.raises(ValueError, match=f"the vocabulary has no {END}"):
        Captioner(replace(model.config, num_words=len(endless)), endless)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("tied", [True, False])
def test_a_saved_and_loaded_captioner_is_the_same_to_the_bit(tmp_path, decoder, tied):
    model = tiny_captioner(decoder=decoder, tied=tied, attention="soft", length_power=0.7)
    checkpoints.to_storage_precision(model)
    assert ("say.weight" in model.state_dict()) is not tied
    loaded = checkpoints.load_as(Captioner, checkpoints.save(model, tmp_path / "model"))
    assert not loaded.training
    assert loaded.config.decoder == decoder
    assert loaded.config.length_power == 0.7
    assert loaded.words == model.words
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first, second = (each.project_image(each.encode(pixels).cells) for each in (model, loaded))
        assert torch.equal(first.cells, second.cells)
        text = captions(model, "there is a red square")
        for direction in range(len(model.decoders)):
            given = (text, torch.tensor([1]), direction)
            for one, other in zip(model(first, *given), loaded(second, *given), strict=True):
                assert torch.equal(one, other)
        found = search(loaded, second)
        for one, other in zip(search(model, first), found, strict=True):
            assert torch.equal(one, other)


def test_a_checkpoint_with_another_vocabulary_or_of_another_class_is_refused(tmp_path):
    folder = checkpoints.save(tiny_captioner(), tmp_path / "model")
    with pytest.raises(BadCheckpoint, match="holds a Captioner, no answerer"):
        checkpoints.load_as(Answerer, folder)
    words = json.loads((folder / "vocab.json").read_text())["words"]
    (folder / "vocab.json").write_text(json.dumps({"words": [*words, "zebra"]}))
    with pytest.raises(BadCheckpoint, match=f"the vocabulary has {len(words) + 1} words"):
        checkpoints.load(folder)


def test_a_caption_starts_with_known_words_and_leaves_room_for_more():
    model = tiny_captioner()
    expected = model.words.encode(["there", "is", "a", "red"])
    assert model.start_ids("There is a RED,") == expected
    assert model.start_ids("") == model.start_ids(" . ") == []
    assert len(model.start_ids("a " * 9)) == 9
    with pytest.raises(BadText, match="The start has 10 words, and a caption at most 10"):
        model.start_ids("a " * 10)
    with pytest.raises(BadText, match="does not know xylophone, zebra: use other words"):
        model.start_ids("a zebra a xylophone")
    with pytest.raises(BadText, match="The start has 1,001 characters"):
        model.start_ids("a" * (MAX_CHARACTERS + 1))


@pytest.mark.parametrize("token", ["<pad>", "<unk>", END])
def test_what_is_no_word_is_not_taken_for_one(token):
    model = tiny_captioner()
    with pytest.raises(BadText, match=f"does not know {token}"):
        model.ids(["a", token])


@pytest.mark.parametrize("attention", ATTENTION)
def test_every_attention_sees_the_picture_and_where_things_are_only_if_it_looks(attention):
    model = tiny_captioner(attention=attention)
    seen = cells(model, 1)
    ids, owner = captions(model, "a red square"), torch.tensor([0])

    def logits(some):
        with torch.no_grad():
            return model(model.project_image(some), ids, owner)

    plain, other = logits(seen), logits(cells(model, 1, seed=1))
    assert not torch.allclose(plain.logits, other.logits, atol=1e-3)
    turned = logits(seen.flip(1))  # the same cells elsewhere: the words stay, the maps move
    torch.testing.assert_close(turned.logits, plain.logits, rtol=0, atol=1e-5)
    if attention != "none":
        torch.testing.assert_close(turned.attention, plain.attention.flip(2), rtol=0, atol=1e-6)
        assert not torch.allclose(turned.attention, plain.attention, atol=1e-4)


def test_dropout_is_drawn_in_training_alone():
    model = tiny_captioner(dropout=0.5)
    assert torch.equal(look(model).cells, look(model).cells)
    assert torch.equal(read(model, "a red square").logits, read(model, "a red square").logits)
    model.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, second = (read(model, "a red square").logits for _ in range(2))
    assert not torch.allclose(first, second, atol=1e-3)
