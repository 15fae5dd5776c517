"""The encoder: its grid, its stages, and what unfolding BatchNorm may and may not change."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from helpers.tiny import TINY_ENCODER
from torch import nn

from training.core.encoder_init import pretrained, side_by_side, standardise, unfold_batch_norm
from vqa.models.encoder import CELL_LENGTH, Encoder, EncoderConfig

RESNET = EncoderConfig(
    architecture={
        "model_type": "resnet",
        "embedding_size": 8,
        "hidden_sizes": [8, 16, 24, 32],
        "depths": [1, 1, 1, 1],
        "layer_type": "basic",
    },
    image_size=64,
)


@pytest.mark.parametrize("config", [TINY_ENCODER, RESNET], ids=["mobilenet", "resnet"])
@pytest.mark.parametrize("stride", [16, 32])
def test_the_grid_has_a_cell_for_every_stride_pixels(config, stride):
    encoder = Encoder(replace(config, stride=stride))
    grid = encoder(torch.rand(2, 3, 64, 64))
    assert (grid.height, grid.width) == (64 // stride, 64 // stride) == encoder.grid_size
    assert grid.cells.shape == (2, grid.height * grid.width, encoder.channels)


def test_cells_go_row_by_row_from_the_top_left():
    torch.manual_seed(0)
    encoder = Encoder(replace(RESNET, stride=32, image_size=256))
    pixels = torch.zeros(1, 3, 256, 256)
    plain = encoder(pixels).cells
    pixels[..., :96, 160:] = 1  # the top right
    changed = (encoder(pixels).cells - plain).abs().sum(-1).view(8, 8)
    halves = changed[:4, 4:].sum(), changed[4:, :4].sum()
    assert halves[0] > 10 * halves[1]


def test_a_stage_that_does_not_exist_is_named_with_those_that_do():
    with pytest.raises(ValueError, match=r"stride 64; it offers \[4, 8, 16, 32\]"):
        Encoder(replace(RESNET, stride=64))


def test_pixels_are_normalised_inside():
    encoder = Encoder(replace(TINY_ENCODER, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)))
    shifted = Encoder(replace(TINY_ENCODER, mean=(0.2, 0.2, 0.2), std=(0.5, 0.5, 0.5)))
    shifted.load_state_dict(encoder.state_dict())
    pixels = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(encoder((pixels - 0.2) / 0.5).cells, shifted(pixels).cells)


@pytest.mark.parametrize("config", [TINY_ENCODER, RESNET], ids=["mobilenet", "resnet"])
def test_freezing_by_stage_freezes_more_with_each_stage(config):
    encoder = Encoder(replace(config, stride=32))
    frozen = []
    for stride in (0, 4, 8, 16, 32):
        encoder.freeze(stride)
        frozen.append(sum(not p.requires_grad for p in encoder.parameters()))
    assert frozen[0] == 0
    assert frozen == sorted(set(frozen))
    assert frozen[-1] == len(list(encoder.parameters()))


def test_freezing_also_freezes_parameters_that_no_layer_holds():
    convnext = {
        "model_type": "convnext",
        "hidden_sizes": [8, 16, 24, 32],
        "depths": [1, 1, 1, 1],
    }
    encoder = Encoder(EncoderConfig(architecture=convnext, image_size=64))
    encoder.freeze(8)
    scales = {n: p for n, p in encoder.network.named_parameters() if "layer_scale" in n}
    assert [p.requires_grad for p in scales.values()] == [False, False, True, True]
    encoder.freeze(32)
    assert not any(p.requires_grad for p in encoder.parameters())


@pytest.mark.parametrize("config", [TINY_ENCODER, RESNET], ids=["mobilenet", "resnet"])
def test_layers_past_the_stage_that_is_read_stay_frozen(config):
    encoder = Encoder(replace(config, stride=16))
    encoder.freeze(0)
    encoder(torch.rand(1, 3, 64, 64)).cells.sum().backward()
    trained = [p.requires_grad for p in encoder.parameters()]
    assert trained == [p.grad is not None for p in encoder.parameters()]
    assert 0 < sum(trained) < len(trained)


def test_batch_norm_keeps_its_statistics_in_training_mode_unless_asked():
    encoder = Encoder(TINY_ENCODER).train()
    norms = [m for m in encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    assert encoder.training
    assert not any(norm.training for norm in norms)
    encoder.train_batch_norm = True
    encoder.train()
    assert all(norm.training for norm in norms)


def test_unfolding_leaves_the_function_and_gives_the_true_statistics():
    torch.manual_seed(0)
    encoder = Encoder(replace(TINY_ENCODER, stride=32))
    pixels = torch.rand(32, 3, 64, 64)
    before = encoder(pixels).cells
    unfold_batch_norm(encoder, pixels.split(8))
    torch.testing.assert_close(encoder(pixels).cells, before, rtol=1e-3, atol=1e-5)
    encoder.train_batch_norm = True  # the batch's own statistics are now the running ones
    torch.testing.assert_close(encoder.train()(pixels).cells, before, rtol=2e-2, atol=2e-3)


def test_pretrained_weights_and_their_normalisation_are_taken_over(tmp_path):
    source = Encoder(TINY_ENCODER)
    source.network.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_processor_type": "MobileNetV2ImageProcessor",'
        ' "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}'
    )
    encoder = pretrained(str(tmp_path), image_size=64, stride=16)
    assert encoder.config.mean == (0.1, 0.2, 0.3)
    assert encoder.config.std == (0.4, 0.5, 0.6)
    for name, tensor in source.network.state_dict().items():
        assert torch.equal(encoder.network.state_dict()[name], tensor), name


def test_an_encoder_can_be_rebuilt_from_its_config_alone():
    encoder = Encoder(TINY_ENCODER)
    twin = Encoder(EncoderConfig(**vars(encoder.config)))
    twin.load_state_dict(encoder.state_dict())
    pixels = torch.rand(1, 3, 64, 64)
    assert torch.equal(encoder(pixels).cells, twin(pixels).cells)


def two(**changes) -> Encoder:
    """A ResNet that reads earlier stages as well, and a narrower one beside it."""
    torch.manual_seed(0)
    narrow = RESNET.architecture | {"hidden_sizes": [8, 12, 16, 20]}
    beside = replace(RESNET, architecture=narrow)
    return Encoder(replace(RESNET, finer=(1, 4, 16), beside=beside, **changes))


def test_a_cell_is_made_of_its_parts_each_of_one_length():
    encoder, pixels = two(), torch.rand(2, 3, 64, 64)
    assert encoder.widths == (32, 3 + 8 + 24, 20)
    parts = encoder(pixels).normalised(encoder.widths).cells.split(encoder.widths, dim=-1)
    for part in parts:
        torch.testing.assert_close(part.norm(dim=-1), torch.full((2, 4), CELL_LENGTH))


def test_side_by_side_two_encoders_see_what_they_see_alone():
    alone = [Encoder(replace(TINY_ENCODER, stride=32)), Encoder(replace(RESNET, stride=32))]
    pixels = torch.rand(2, 3, 64, 64)
    both = side_by_side(*alone)(pixels).cells
    torch.testing.assert_close(both, torch.cat([e(pixels).cells for e in alone], dim=-1))


def test_encoders_of_other_grids_do_not_stand_side_by_side():
    with pytest.raises(ValueError, match="grids of one size"):
        two(stride=16)


def test_what_is_read_of_earlier_stages_has_mean_0_and_spread_1():
    encoder, pixels = two(), torch.rand(32, 3, 64, 64)
    before = encoder(pixels).cells.split(encoder.widths, dim=-1)
    standardise(encoder, pixels.split(8))
    after = encoder(pixels).cells.split(encoder.widths, dim=-1)
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[2], after[2])
    varied = before[1].std((0, 1)) > 1e-2
    assert varied[:3].all()  # the pixels
    torch.testing.assert_close(after[1].mean((0, 1)), torch.zeros(len(varied)), atol=1e-3, rtol=0)
    spread = after[1].std((0, 1))[varied]
    torch.testing.assert_close(spread, torch.ones(int(varied.sum())), atol=1e-3, rtol=0)


def test_one_of_the_maps_of_a_stage_is_read_by_its_width():
    last = Encoder(replace(TINY_ENCODER, stride=32))
    widths = {m.shape[1] for m in last.maps(torch.zeros(1, 3, 64, 64)) if m.shape[-1] == 2}
    other = min(widths)
    assert other < last.channels
    assert Encoder(replace(TINY_ENCODER, stride=32, width=other)).channels == other
    with pytest.raises(ValueError, match="of stride 32 and width 7; it offers"):
        Encoder(replace(TINY_ENCODER, stride=32, width=7))


def test_freezing_and_batch_norm_are_those_of_both():
    encoder = two()
    encoder.freeze(32)
    assert not any(p.requires_grad for p in encoder.parameters())
    encoder.freeze(0)
    assert all(any(p.requires_grad for p in e.parameters()) for e in (encoder, encoder.beside))
    encoder.train_batch_norm = True
    assert all(m.training for m in encoder.train().modules() if isinstance(m, nn.BatchNorm2d))


def test_two_side_by_side_can_be_rebuilt_from_their_plain_config():
    encoder, pixels = two(), torch.rand(1, 3, 64, 64)
    twin = Encoder(EncoderConfig.from_plain(json.loads(json.dumps(asdict(encoder.config)))))
    assert twin.config == encoder.config
    twin.load_state_dict(encoder.state_dict())
    assert torch.equal(twin(pixels).cells, encoder(pixels).cells)
