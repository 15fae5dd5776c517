"""Beam search and sampling on a toy language, small enough to list all that can be said in it."""

from itertools import product

import pytest
import torch

from vqa.models.decoding import beam_search, sample

END, WORDS = 2, (3, 4, 5)
SIZE = 150  # of the vocabulary; more than all captions of four words, so that no beam is dropped
MOST = 4


class Toy:
    """Scores that depend on the picture, the word and all words before it."""

    def __init__(self, batch=1, seed=0, say=WORDS, end=0.0, size=SIZE):
        random = torch.Generator().manual_seed(seed)
        self.table = torch.randn(batch, size, size, generator=random, dtype=torch.float64)
        self.pull = torch.randn(batch, 1, size, generator=random, dtype=torch.float64)
        self.table[:, :, END] += end
        self.silent = torch.full((size,), -torch.inf, dtype=torch.float64)
        self.silent[[END, *say]] = 0.0

    def only(self, picture):
        """The same language with one of its pictures alone."""
        one = object.__new__(Toy)
        one.table, one.pull = (part[picture : picture + 1] for part in (self.table, self.pull))
        one.silent = self.silent
        return one

    def start(self, width):
        state = torch.zeros(len(self.table), width, 1, dtype=torch.float64)
        return state, state + 1

    def step(self, words, state):
        memory, steps = state
        memory = 0.7 * memory + (words.unsqueeze(2) * steps).sin()
        pictures = torch.arange(len(words)).unsqueeze(1)
        logits = self.table[pictures, words] + memory * self.pull
        return logits + self.silent, (memory, steps + 1)


def log_prob(toy, picture, words, *, ended):
    """Of one sequence, step by step."""
    alone, total, said = toy.only(picture), 0.0, END
    state = alone.start(1)
    for word in [*words, *([END] if ended else [])]:
        logits, state = alone.step(torch.tensor([[said]]), state)
        total, said = total + logits.log_softmax(2)[0, 0, word].item(), word
    return total


def everything(toy, picture, power, prefix=(), most=MOST):
    """All sequences with their log probability, best first."""
    found = []
    for length in range(max(1, len(prefix)), most + 1):
        for rest in product(WORDS, repeat=length - len(prefix)):
            words, ended = [*prefix, *rest], length < most
            value = log_prob(toy, picture, words, ended=ended)
            found.append((value / (length + ended) ** power, words, value))
    return [(words, value) for _, words, value in sorted(found, reverse=True)]


def listed(found, picture):
    """What was found about a picture: words and log probability, best first."""
    rows = zip(*(part[picture].tolist() for part in found), strict=True)
    return [(words[:length], value) for words, length, value in rows]


def assert_alike(found, expected):
    assert [words for words, _ in found] == [words for words, _ in expected]
    values = [value for _, value in found]
    assert values == pytest.approx([value for _, value in expected], abs=1e-9)


@pytest.mark.parametrize("power", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("prefix", [(), (4,), (3, 5)])
def test_a_beam_wide_enough_finds_all_that_can_be_said_in_the_right_order(power, prefix):
    toy = Toy(batch=2)
    options = {"end": END, "width": SIZE, "max_words": MOST, "length_power": power}
    found = beam_search(toy, prefix=prefix, **options)
    for picture in range(2):
        expected = everything(toy, picture, power, prefix)
        assert_alike(listed(found, picture)[: len(expected)], expected)
        rest = found.log_probs[picture, len(expected) :]
        assert len(rest) == SIZE - len(expected)
        assert (rest == -torch.inf).all()


@pytest.mark.parametrize("seed", range(5))
def test_every_log_probability_is_that_of_its_sequence_whatever_the_beam_dropped(seed):
    toy = Toy(batch=3, seed=seed)
    found = beam_search(toy, end=END, width=3, max_words=7)
    for picture in range(3):
        ranks = []
        for words, value in listed(found, picture):
            ended = len(words) < 7
            assert value == pytest.approx(log_prob(toy, picture, words, ended=ended), abs=1e-9)
            ranks.append(value / (len(words) + ended))
        assert ranks == sorted(ranks, reverse=True)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("prefix", [(), (5,)])
def test_a_beam_of_one_is_greedy(seed, prefix):
    toy = Toy(batch=8, seed=seed)
    options = {"end": END, "prefix": prefix, "max_words": 6}
    beam, greedy = beam_search(toy, width=1, **options), sample(toy, temperature=0, **options)
    assert len({tuple(words) for i in range(8) for words, _ in listed(beam, i)}) > 2
    for picture in range(8):
        assert_alike(listed(beam, picture), listed(greedy, picture))


@pytest.mark.parametrize("width", [1, 3, 5])
def test_a_batch_of_eight_equals_eight_single_calls(width):
    toy = Toy(batch=8)
    options = {"end": END, "width": width, "max_words": 6}
    together = beam_search(toy, **options)
    for picture in range(8):
        alone = beam_search(toy.only(picture), **options)
        assert_alike(listed(together, picture), listed(alone, 0))


def test_a_wider_beam_finds_nothing_less_likely_than_the_best_of_one():
    toy = Toy(batch=30, seed=3)
    options = {"end": END, "max_words": 6, "length_power": 0.0}
    best = {w: beam_search(toy, width=w, **options).log_probs[:, 0] for w in (1, SIZE)}
    assert (best[SIZE] >= best[1] - 1e-9).all()
    assert (best[SIZE] > best[1] + 1e-3).any()


def test_a_finished_caption_stays_as_it_is_while_others_go_on():
    toy = Toy(end=-20.0)  # nothing ends by itself
    toy.table[0, 4, END] += 60.0  # but after word 4 everything does
    found = beam_search(toy, end=END, width=3, max_words=8, length_power=0.0)
    ended = found.lengths[0] < 8
    assert ended.any()
    for words, length in zip(found.words[0], found.lengths[0], strict=True):
        assert words.shape == (8,)
        assert (words[length:] == END).all()
        assert (words[:length] != END).all()
    for words, value in listed(found, 0):
        assert (4 in words) == (len(words) < 8)
        assert value == pytest.approx(log_prob(toy, 0, words, ended=len(words) < 8), abs=1e-9)


def test_the_search_stops_when_every_beam_has_ended():
    steps = []

    class Counting(Toy):
        def step(self, words, state):
            steps.append(words.shape)
            return super().step(words, state)

    found = beam_search(Counting(end=60.0), end=END, width=2, max_words=20)
    assert found.lengths.tolist() == [[1, 1]]
    assert len(steps) < 5


@pytest.mark.parametrize("width", [1, 3])
def test_no_caption_is_empty_however_much_the_model_would_like_it(width):
    toy = Toy(batch=4, end=60.0)
    assert (beam_search(toy, end=END, width=width).lengths >= 1).all()
    assert (sample(toy, end=END, count=width).lengths == 1).all()
    assert (sample(toy, end=END, count=width, temperature=0).lengths == 1).all()


def test_a_prefix_alone_may_be_the_whole_caption():
    toy = Toy(end=60.0)
    found = beam_search(toy, end=END, width=1, prefix=(3, 4))
    assert listed(found, 0)[0][0] == [3, 4]
    drawn = sample(toy, end=END, prefix=(3, 4))
    assert listed(drawn, 0)[0][0] == [3, 4]
    assert drawn.log_probs.item() == pytest.approx(found.log_probs.item(), abs=1e-9)


@pytest.mark.parametrize("most", [1, 2, 5])
def test_max_words_cuts_and_what_is_cut_needs_no_end(most):
    toy = Toy(batch=2, end=-60.0)
    for found in (
        beam_search(toy, end=END, width=2, max_words=most),
        sample(toy, end=END, count=2, max_words=most),
    ):
        assert found.words.shape == (2, 2, most)
        assert (found.lengths == most).all()
        for picture in range(2):
            for words, value in listed(found, picture):
                expected = log_prob(toy, picture, words, ended=False)
                assert value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("width", [1, 3, 20])
def test_what_cannot_be_said_is_not_said(width):
    toy = Toy(batch=4, say=(4,), size=8)
    found = beam_search(toy, end=END, width=width, max_words=6)
    assert found.words.shape[1] == min(width, 8)  # no more beams than words
    said = found.words[found.log_probs > -torch.inf]
    assert set(said.unique().tolist()) <= {END, 4}
    drawn = sample(toy, end=END, count=width, max_words=6)
    assert drawn.words.shape[1] == width
    assert set(drawn.words.unique().tolist()) <= {END, 4}


def test_a_lower_length_power_prefers_shorter_captions():
    toy = Toy(batch=20)
    lengths = [
        beam_search(toy, end=END, width=5, max_words=8, length_power=power).lengths[:, 0].sum()
        for power in (0.0, 1.0, 2.0)
    ]
    assert lengths[0] < lengths[1] < lengths[2]


def test_drawing_is_a_function_of_its_generator_alone():
    toy = Toy(batch=2)

    def drawn(seed):
        generator = torch.Generator().manual_seed(seed)
        return sample(toy, end=END, count=50, generator=generator).words.tolist()

    before = torch.get_rng_state()
    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_captions_are_drawn_as_often_as_their_probability_says(temperature):
    toy = Toy(say=(3, 4))
    generator = torch.Generator().manual_seed(0)
    options = {"temperature": temperature, "generator": generator}
    found = sample(toy, end=END, count=20_000, max_words=2, **options)
    drawn = [tuple(words) for words, _ in listed(found, 0)]

    def shares(before):  # of the words that may follow
        state = toy.start(1)
        for word in (END, *before):
            logits, state = toy.step(torch.tensor([[word]]), state)
        logits = logits[0, 0].log_softmax(0)
        if not before:
            logits[END] = -torch.inf
        return (logits / temperature).softmax(0)

    for first in (3, 4):
        begun = shares(())[first].item()
        assert drawn.count((first,)) / 20_000 == pytest.approx(
            begun * shares((first,))[END].item(), abs=0.02
        )  # four standard deviations are 0.014
        for second in (3, 4):
            expected = begun * shares((first,))[second].item()
            assert drawn.count((first, second)) / 20_000 == pytest.approx(expected, abs=0.02)
    for words, value in listed(found, 0)[:20]:  # whatever the temperature
        ended = len(words) < 2
        assert value == pytest.approx(log_prob(toy, 0, words, ended=ended), abs=1e-9)


def test_captions_of_one_picture_are_drawn_independently():
    drawn = sample(Toy(batch=3), end=END, count=40)
    for picture in range(3):
        assert len({tuple(words) for words, _ in listed(drawn, picture)}) > 5
