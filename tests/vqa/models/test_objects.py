"""Boxes, the object model, and the words that name objects."""

import numpy as np
import pytest
import torch
from helpers.tiny import tiny_objects
from PIL import Image

from training.core.encoder_init import depthwise_padding
from training.data.tune_fold import in_tune_fold, of_fold
from training.evaluation.objects import certain, fit_thresholds, match
from training.pseudo_boxes import OBJECTS, STRIDES, Teacher, agree, decode, read_boxes, write_boxes
from vqa import checkpoints
from vqa.data.image_dataset import ImageRecord
from vqa.errors import BadData
from vqa.models import ObjectModel
from vqa.models.boxes import Boxes, iou, suppress
from vqa.models.encoder import Encoder, EncoderConfig
from vqa.models.fused import _Depthwise, _weight_gradient, fuse
from vqa.models.object_words import counted, named, word_index
from vqa.models.objects import ObjectMaps, count
from vqa.models.objects import decode as decode_maps


def boxes(*rows):
    """(left, top, right, bottom, label, score) each."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Boxes(table[:, :4], table[:, 4].astype(int), table[:, 5])


def test_overlap_is_intersection_over_union():
    one, other = (
        boxes((0, 0, 0.5, 0.5, 0, 1)),
        boxes((0.25, 0, 0.75, 0.5, 0, 1), (0, 0, 0, 0, 0, 1)),
    )
    np.testing.assert_allclose(iou(one.corners, other.corners), [[1 / 3, 0]])


def test_of_boxes_that_overlap_the_best_of_a_class_stays():
    left, nearly = (0, 0, 0.5, 1), (0.02, 0, 0.5, 1)
    found = suppress(boxes((*nearly, 0, 0.5), (*left, 0, 0.9), (*nearly, 1, 0.4)))
    np.testing.assert_allclose(found.scores, [0.9, 0.4])
    assert found.labels.tolist() == [0, 1]
    assert len(suppress(boxes()).scores) == 0


def test_views_agree_on_the_mean_of_what_both_show():
    one = boxes((0, 0, 0.4, 0.4, 0, 0.9), (0.5, 0.5, 0.9, 0.9, 1, 0.8), (0.6, 0, 0.9, 0.3, 2, 0.7))
    other = boxes(
        (0.5, 0.5, 0.9, 0.8, 1, 0.4), (0, 0, 0.4, 0.4, 3, 0.9), (0.1, 0.1, 0.2, 0.2, 2, 1)
    )
    found = agree(one, other)
    assert found.labels.tolist() == [1]  # of the others, the class or the place differs
    np.testing.assert_allclose(found.corners, [[0.5, 0.5, 0.9, 0.85]])
    np.testing.assert_allclose(found.scores, [0.6])
    np.testing.assert_allclose(found.mirrored().mirrored().corners, found.corners, atol=1e-6)
    assert len(agree(boxes(), other).scores) == len(agree(one, boxes()).scores) == 0


def test_a_box_of_one_view_is_matched_once():
    twice = boxes((0, 0, 0.4, 0.4, 0, 0.9), (0, 0, 0.4, 0.42, 0, 0.8))
    assert len(agree(twice, boxes((0, 0, 0.4, 0.4, 0, 0.9))).scores) == 1


def test_the_teachers_rows_are_cells_of_three_grids():
    output = np.zeros((3549, 85), np.float32)
    row = 52 * 52 + 26 * 3 + 5  # second grid, stride 16: fourth row, sixth column
    output[row, :4] = [0.5, 0.25, np.log(2), np.log(4)]
    output[row, 4], output[row, 5 + 7] = 0.8, 0.5
    found = decode(output)
    assert found.labels.tolist() == [7]
    np.testing.assert_allclose(found.scores, [0.4])
    x, y, width, height = 5.5 * 16, 3.25 * 16, 2 * 16, 4 * 16
    expected = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2]) / 416
    np.testing.assert_allclose(found.corners, [expected], rtol=1e-5)
    assert sum((416 // stride) ** 2 for stride in STRIDES) == len(output)


def test_boxes_are_written_in_parts_and_read_by_id(tmp_path, tiny_data, monkeypatch):
    from vqa.data.image_dataset import open_rows

    monkeypatch.setattr("training.pseudo_boxes.PART", 3)
    rows, calls = open_rows(tiny_data, "train", required="image"), []

    def find(picture):
        calls.append(picture.size)
        return boxes((0, 0, 0.5, 0.5, len(calls), 0.5)) if len(calls) > 1 else boxes()

    write_boxes(rows, tmp_path / "tiny", find)
    write_boxes(rows, tmp_path / "tiny", find)  # all parts are there
    assert len(calls) == len(rows) == 8
    found = read_boxes(tmp_path)
    assert set(found) == {str(row.image_id) for row in rows}
    assert found[str(rows[0].image_id)].corners.shape == (0, 4)
    assert found[str(rows[7].image_id)].labels.tolist() == [8]
    with pytest.raises(BadData, match="holds no boxes"):
        read_boxes(tmp_path / "nothing")


def test_the_classes_are_cocos():
    assert len(set(OBJECTS)) == 80
    assert (OBJECTS[0], OBJECTS[15], OBJECTS[79]) == ("person", "cat", "toothbrush")


def test_planted_peaks_are_decoded_to_their_boxes():
    logits, distances = torch.full((2, 3, 8, 8), -9.0), torch.full((2, 4, 8, 8), 0.1)
    logits[0, 2, 3, 5], logits[0, 2, 3, 6] = 2.0, 1.0  # the neighbour is no peak
    logits[0, 1, 0, 0] = 1.0
    distances[0, :, 3, 5] = torch.tensor([0.2, 0.1, 0.05, 0.3])
    first, second = decode_maps(ObjectMaps(logits, distances), 0.3)
    assert first.labels.tolist() == [2, 1]
    x, y = 5.5 / 8, 3.5 / 8
    np.testing.assert_allclose(first.corners[0], [x - 0.2, y - 0.1, x + 0.05, y + 0.3], rtol=1e-5)
    np.testing.assert_allclose(first.corners[1], [0, 0, 1 / 16 + 0.1, 1 / 16 + 0.1], rtol=1e-5)
    np.testing.assert_allclose(first.scores, torch.tensor([2.0, 1.0]).sigmoid(), rtol=1e-5)
    assert len(second.scores) == 0


def test_objects_are_counted_from_the_threshold_of_their_class_on():
    found = boxes((0, 0, 1, 1, 0, 0.9), (0, 0, 1, 1, 0, 0.4), (0, 0, 1, 1, 2, 0.4))
    hard, soft = count(found, torch.tensor([0.5, 0.5, 0.3]))
    assert hard.tolist() == [1, 0, 1]
    torch.testing.assert_close(soft, torch.tensor([1.3, 0.0, 0.4]))


def test_a_saved_model_finds_the_same(tmp_path):
    model = tiny_objects()
    checkpoints.to_storage_precision(model)
    again = checkpoints.load_as(ObjectModel, checkpoints.save(model, tmp_path / "objects"))
    assert again.names == model.names
    pixels = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        for one, other in zip(model(pixels), again(pixels), strict=True):
            assert torch.equal(one, other)
    assert model(pixels).logits.shape == (2, 3, 8, 8)
    assert (model(pixels).distances > 0).all()
    (folder,) = (tmp_path / "objects",)
    (folder / "vocab.json").write_text('{"objects": ["dog"]}')
    with pytest.raises(checkpoints.BadCheckpoint, match="1 names for 3 classes"):
        checkpoints.load(folder)


LITE = {
    "model_type": "efficientnet",
    "width_coefficient": 0.25,
    "depth_coefficient": 0.3,
    "hidden_act": "relu6",
    "hidden_dim": 320,
    "image_size": 64,
}


def lite_encoder():
    """An EfficientNet-lite with random weights and statistics."""
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(architecture=LITE, image_size=64))
    for layer in encoder.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
        if isinstance(layer, torch.nn.BatchNorm2d):
            for part in (layer.weight, layer.running_var):
                torch.nn.init.uniform_(part, 0.5, 2.0)
            for part in (layer.bias, layer.running_mean):
                torch.nn.init.normal_(part, std=0.1)
        if type(layer).__name__ == "EfficientNetSqueezeExciteLayer":
            torch.nn.init.zeros_(layer.expand.weight)
            torch.nn.init.constant_(layer.expand.bias, 40.0)
    return encoder.eval()


def test_a_fused_network_computes_the_same_and_loads_anywhere():
    encoder, pixels = lite_encoder(), torch.rand(2, 3, 64, 64)
    expected = encoder(pixels).cells
    fuse(encoder)
    torch.testing.assert_close(encoder(pixels).cells, expected, rtol=1e-3, atol=1e-4)
    plain = lite_encoder()
    plain.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(plain(pixels).cells, expected, rtol=1e-3, atol=1e-4)


def test_a_fused_network_learns_as_the_plain_one_does():
    gradients = []
    for fused in (False, True):
        encoder = lite_encoder()
        if fused:
            fuse(encoder)
        encoder(torch.ones(2, 3, 64, 64).tril()).cells.square().sum().backward()
        gradients.append(encoder.network.embeddings.batchnorm.bias.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0.01, atol=1e-3)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_depthwise_gradients_in_bfloat16_are_those_of_fp32(kernel, stride, monkeypatch):
    # Compiled it computes the same, but compiling takes long.
    monkeypatch.setattr("vqa.models.fused._compiled", lambda: _weight_gradient)
    torch.manual_seed(0)
    padding = kernel // 2 if stride == 1 else 0
    parts = [torch.randn(2, 8, 17, 17), torch.randn(8, 1, kernel, kernel), torch.randn(8)]
    short = [part.bfloat16().requires_grad_() for part in parts]
    found = _Depthwise.apply(*short, stride, padding)
    wide = [part.detach().float().requires_grad_() for part in short]
    expected = torch.nn.functional.conv2d(*wide, stride=stride, padding=padding, groups=8)
    upstream = torch.randn_like(found)
    gradients = torch.autograd.grad(found, short, upstream)
    right = torch.autograd.grad(expected, wide, upstream.float())
    for one, other in zip((found, *gradients), (expected, *right), strict=True):
        assert (one.float() - other).norm() < 0.005 * other.norm()


def test_the_padding_follows_the_size_of_the_picture():
    lite2 = {"model_type": "efficientnet", "depth_coefficient": 1.0}
    lite2 |= {"strides": [1, 2, 2, 2, 1, 2, 1], "num_block_repeats": [1, 3, 3, 4, 4, 5, 1]}
    assert depthwise_padding(lite2, 260) == {"depthwise_padding": [4, 7, 15]}
    assert (
        depthwise_padding(lite2, 256) == depthwise_padding(lite2, 224) == {"depthwise_padding": []}
    )
    assert depthwise_padding({"model_type": "resnet"}, 260) == {}


def test_questions_name_classes():
    index = word_index(OBJECTS)
    names = [
        OBJECTS[i] for i in named("Are the hot dogs left of two people with wine glasses?", index)
    ]
    assert names == ["hot dog", "person", "wine glass"]
    assert OBJECTS[counted("How many buses are there?", index)] == "bus"
    assert OBJECTS[counted("how many traffic lights?", index)] == "traffic light"
    assert counted("How many windows has the bus?", index) is None
    assert counted("Is there a dog?", index) is None


def test_the_fold_is_the_same_everywhere_and_apart_from_the_rest():
    rows = [ImageRecord(image_id, b"", ()) for image_id in range(2000)]
    inside, outside = ([r.image_id for r in of_fold(rows, fold)] for fold in (True, False))
    assert inside[:5] == [i for i in range(2000) if in_tune_fold(i)][:5]
    assert sorted(inside + outside) == list(range(2000))
    assert 60 < len(inside) < 140
    assert in_tune_fold(25) == in_tune_fold("25")
    assert of_fold(rows, None) is rows


def test_labels_of_people_say_which_boxes_are_certain():
    some = boxes(*[(0, 0, 1, 1, label, 0.4) for label in (0, 1)], (0, 0, 1, 1, 1, 0.7))
    names = ("dog", "cat")
    assert certain(some, names, {"dog"}).tolist() == [True, False, True]
    assert certain(some, names, None).tolist() == [True, True, True]
    assert certain(some._replace(scores=some.scores - 0.15), names, None).tolist() == [0, 0, 1]


def test_scores_count_what_is_right_wrong_and_unknown():
    truth = boxes((0, 0, 0.5, 0.5, 0, 1), (0.5, 0.5, 1, 1, 0, 1), (0.5, 0, 1, 0.5, 1, 0.1))
    sure = np.array([True, True, False])
    found = boxes(
        (0, 0, 0.5, 0.5, 0, 0.5),  # right
        (0, 0, 0.5, 0.45, 0, 0.3),  # the same again: wrong
        (0.5, 0, 1, 0.5, 1, 0.7),  # nobody knows
    )
    matches = match([found], [truth], [sure], 2)
    assert matches.right.tolist() == [True, False]
    assert matches.truths.tolist() == [2, 0]
    f1, threshold = matches.best_f1()
    assert f1 == pytest.approx(2 / 3)
    assert threshold == pytest.approx(0.5)
    assert matches.average_precision() == 0  # no class has enough boxes
    many = match([found] * 3, [truth] * 3, [sure] * 3, 2)
    assert many.average_precision() == pytest.approx(0.5)
    thresholds = fit_thresholds(many)
    assert 0.5 > thresholds[0] > 0.3
    assert thresholds.shape == (2,)


class RedSpotter:
    """A session that reports one object where the picture is reddest, as class 3."""

    def run(self, _, inputs):
        (pixels,) = inputs["images"]
        blue, _, red = pixels  # the order that the teacher was taught with
        assert pixels.dtype == np.float32
        assert pixels.max() == 255
        y, x = np.unravel_index((red - blue)[16::32, 16::32].argmax(), (13, 13))
        output = np.zeros((1, 3549, 85), np.float32)
        row = 52 * 52 + 26 * 26 + 13 * y + x
        output[0, row, :5], output[0, row, 8] = [0.5, 0.5, 0, 0, 1], 0.9
        return [output]


def test_the_teacher_must_see_a_thing_in_the_mirror_image_too():
    teacher = Teacher.__new__(Teacher)
    teacher.session = RedSpotter()
    picture = Image.new("RGB", (130, 130))
    picture.paste((255, 0, 0), (20, 50, 30, 60))
    found = teacher.find(picture)
    assert found.labels.tolist() == [3]
    np.testing.assert_allclose(found.corners * 13, [[2, 5, 3, 6]], atol=1e-5)
    picture.paste((255, 0, 0), (100, 50, 110, 60))  # the views report different ones
    assert len(teacher.find(picture).scores) == 0


def test_a_teachers_folder_holds_one_onnx_file(tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(BadData, match="must hold one ONNX file, it holds 0"):
        Teacher(tmp_path)
