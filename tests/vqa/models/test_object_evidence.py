"""What the objects in a picture say to a question."""

import pytest
import torch
from helpers.tiny import tiny_answerer_of_objects

from vqa import checkpoints
from vqa.models import Answerer
from vqa.models.objects import ObjectMaps, decode

DOG, HOT_DOG = 0, 1
PIXELS = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model():
    return tiny_answerer_of_objects()


def ids(model, question):
    return torch.tensor([model.question_ids(question)])


def counts(model, *cells, label=DOG, score=0.9):
    """Evidence that an object of a class lies in each of the cells."""
    num_classes = len(model.objects.names)
    found = torch.zeros(1, 16, 2 * num_classes)
    for cell in cells:
        found[0, cell, label] += score
        found[0, cell, num_classes + label] += 1
    return found


def evidence(model, question, found):
    read = model.question(ids(model, question))
    return model.evidence(found, model.objects.thresholds, read, torch.tensor([0]))


@pytest.mark.parametrize(
    ("question", "classes"),
    [
        ("is there a dog", [-1, -1, -1, DOG]),
        ("how many dogs are there", [-1, -1, DOG, -1, -1]),
        ("is it a hot dog", [-1, -1, -1, -1, HOT_DOG]),
        ("what color is it", [-1, -1, -1, -1]),
        ("hot is it", [-1, -1, -1]),
    ],
)
def test_words_name_classes_and_names_of_two_words_are_one(model, question, classes):
    assert model.evidence.named(ids(model, question)).tolist() == [classes]


@pytest.mark.parametrize(
    ("question", "label"),
    [
        ("how many dogs are there", DOG),
        ("how many hot dog", HOT_DOG),
        ("how many are there", -1),
        ("is there a dog", -1),
        ("dog", -1),
        ("how many", -1),
    ],
)
def test_a_question_counts_what_it_asks_how_many_of(model, question, label):
    assert model.evidence.counted(ids(model, question)).tolist() == [label]


@pytest.mark.parametrize("cells", [(), (3,), (3, 7), (3, 7, 7)])
def test_the_number_of_objects_moves_the_answer_that_is_this_number(model, cells):
    moved = evidence(model, "how many dogs are there", counts(model, *cells)).logits[0]
    by_answer = dict(zip(model.answers, moved.tolist(), strict=True))
    numbers = [by_answer[str(number)] for number in range(4)]
    assert numbers.index(max(numbers)) == len(cells)
    assert max(numbers) == 0.0
    assert by_answer["yes"] == by_answer["red"] == 0.0


def test_other_questions_and_other_classes_are_not_counted(model):
    for question in ("is there a dog", "how many are there"):
        assert not evidence(model, question, counts(model, 3)).logits.any()
    seen = evidence(model, "how many hot dog", counts(model, 3, 4)).logits[0]
    assert seen[model.answers.index("0")] == 0.0


def test_attention_is_drawn_to_the_named_things_alone(model):
    prior = evidence(model, "what color is the dog", counts(model, 5)).prior[0]
    assert prior.argmax() == 5
    assert prior.count_nonzero() == 1
    assert not evidence(model, "what color is it", counts(model, 5)).prior.any()


def test_a_gate_that_has_learnt_confirms_or_denies(model):
    with torch.no_grad():
        model.evidence.confirm.bias.fill_(0.5)
    try:
        there = evidence(model, "is there a dog", counts(model, 5)).logits[0]
        gone = evidence(model, "is there a dog", counts(model)).logits[0]
        both = evidence(model, "is a dog a hot dog", counts(model, 5)).logits[0]
    finally:
        with torch.no_grad():
            model.evidence.confirm.bias.zero_()
    yes, no = map(model.answers.index, ("yes", "no"))
    assert there[yes] == -there[no] > 0
    assert gone[yes] == -gone[no] < 0
    assert both[yes] < 0  # all that is named must be there


def test_cells_sum_the_objects_whose_centre_is_in_them(model):
    logits = torch.full((1, 2, 8, 8), -8.0)
    logits[0, DOG, 0, 0] = logits[0, DOG, 0, 3] = 3.0  # two cells of the grid of 4 x 4
    logits[0, HOT_DOG, 7, 7] = -1.0  # below its threshold of 0.3, and above the noise
    cells = model.objects.per_cell(ObjectMaps(logits, torch.ones(1, 4, 8, 8)), (4, 4))
    sure, unsure = torch.sigmoid(torch.tensor([3.0, -1.0])).tolist()
    assert cells.shape == (1, 16, 4)
    assert cells[0, :, DOG].nonzero().flatten().tolist() == [0, 1]
    assert cells[0, 0].tolist() == pytest.approx([sure, 0, 1, 0])
    assert cells[0, 15].tolist() == pytest.approx([0, unsure, 0, 0])


def test_a_saved_answerer_finds_and_answers_as_before(model, tmp_path):
    again = checkpoints.load_as(Answerer, checkpoints.save(model, tmp_path / "model"))
    grids = [each.encode(PIXELS) for each in (model, again)]
    first, second = (decode(grid.objects, 0.0)[0] for grid in grids)
    assert first.labels.tolist() == second.labels.tolist()
    question, owner = ids(model, "how many dogs are there"), torch.tensor([0])
    logits = [
        m(g.cells, question, owner).logits for m, g in zip((model, again), grids, strict=True)
    ]
    assert torch.allclose(*logits, atol=1e-2)


def test_other_numbers_of_objects_give_other_answers(model):
    cells = model.encode(PIXELS).cells.clone()
    question, owner = ids(model, "how many dogs are there"), torch.tensor([0])
    channels, two = model.encoder.channels, model.answers.index("2")
    shares = []
    for found in (counts(model), counts(model, 1, 2)):
        with torch.no_grad():
            cells[..., channels:] = found
            shares.append(model(cells, question, owner).logits.softmax(-1)[0, two].item())
    assert shares[1] > 2 * shares[0]
