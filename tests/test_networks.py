"""The shared networks: sizes, initial weights, batch norm."""

import math

import pytest
import torch
from torch import nn

from benchmark.networks import (
    BatchNorm1d,
    BatchNorm2d,
    build_decoder,
    build_encoder,
    build_image_critic,
    build_mlp,
    count_parameters,
    frozen_statistics,
    noise,
    scaled,
)

# side, C, m: encoder, encoder with 2m outputs, decoder, prior generator, latent critic, image critic
COUNTS = {
    (28, 1, 32): (6_590_944, 6_623_744, 6_871_553, 3_215_392, 3_183_617, 6_556_865),
    (32, 3, 64): (8_591_872, 8_657_472, 8_877_315, 3_280_960, 3_216_385, 8_524_993),
    (32, 3, 128): (8_657_472, 8_788_672, 8_942_851, 3_412_096, 3_281_921, 8_524_993),
    (64, 3, 64): (33_757_696, 33_823_296, 34_116_867, 3_280_960, 3_216_385, 33_690_817),
    (64, 3, 128): (33_823_296, 33_954_496, 34_182_403, 3_412_096, 3_281_921, 33_690_817),
}


@pytest.mark.parametrize(("kind", "expected"), COUNTS.items())
def test_parameter_counts_are_those_of_the_release(kind, expected):
    size, channels, m = kind
    with torch.device("meta"):  # shapes without memory
        nets = (
            build_encoder(channels, size, m),
            build_encoder(channels, size, 2 * m),
            build_decoder(channels, size, m),
            build_mlp(m, m),
            build_mlp(m, 1),
            build_image_critic(channels, size),
        )
    assert tuple(map(count_parameters, nets)) == expected


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 28, 32, 64])
def test_shapes_and_ranges(size, channels):
    x = torch.rand(5, channels, size, size)
    z = build_encoder(channels, size, 7, width=0.05)(x)
    y = build_decoder(channels, size, 7, width=0.05)(10 * z)
    assert z.shape == (5, 7)
    assert y.shape == x.shape
    assert (y >= 0).all()
    assert (y <= 1).all()
    assert build_image_critic(channels, size, width=0.05)(x).shape == (5, 1)
    assert build_mlp(7, 4, width=0.05)(z).shape == (5, 4)


def test_width_scales_every_base_size_and_leaves_one_unit_at_least():
    sizes = [layer.out_features for layer in build_mlp(3, 2, width=0.25) if isinstance(layer, nn.Linear)]
    assert sizes == [256, 256, 256, 256, 2]
    assert [scaled(64, width) for width in (1, 0.25, 0.0001)] == [64, 16, 1]


@pytest.mark.parametrize(
    ("net", "bound"),
    [
        (build_encoder(1, 16, 300, 0.5), 3**0.5),  # uniform: the bound is sqrt(3) standard deviations
        (build_image_critic(3, 16, 0.5), 3**0.5),
        (build_decoder(1, 16, 300, 0.5)[:-2], 2 / 0.87962566),  # normal, cut at two untruncated ones
        (build_mlp(300, 300, 0.5), 2 / 0.87962566),
    ],
    ids=["encoder", "image critic", "decoder", "mlp"],
)
def test_weights_are_glorot_and_biases_zero(net, bound):
    layers = [layer for layer in net if hasattr(layer, "weight") and layer.weight.dim() > 1]
    for layer in layers:
        area = layer.weight[0, 0].numel()
        std = math.sqrt(2 / (area * (layer.weight.shape[0] + layer.weight.shape[1])))
        assert layer.weight.abs().max() <= bound * std * (1 + 1e-6)
        assert not layer.bias.any()
        if layer.weight.numel() > 10_000:  # enough of them to tell
            assert layer.weight.std().item() == pytest.approx(std, rel=0.03)
            assert layer.weight.abs().max() > 0.97 * bound * std
    assert sum(layer.weight.numel() > 10_000 for layer in layers) >= 2


def test_the_last_convolution_of_the_decoder_is_uniform():
    weight = build_decoder(3, 8, 2)[-2].weight  # [3, 64, 3, 3]
    std = math.sqrt(2 / (9 * 67))
    assert weight.std().item() == pytest.approx(std, rel=0.06)
    assert 0.97 < (weight.abs().max() / (3**0.5 * std)).item() <= 1 + 1e-6


@pytest.mark.parametrize("steps", [1, 5, 300])
@pytest.mark.parametrize(("kind", "shape"), [(BatchNorm1d, (16, 3)), (BatchNorm2d, (4, 3, 2, 2))])
def test_evaluation_uses_the_bias_corrected_average(kind, shape, steps):
    torch.manual_seed(steps)
    norm = kind(3).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    mean = variance = torch.zeros(3, dtype=torch.float64)
    for k in range(steps):
        x = torch.randn(shape, dtype=torch.float64) * (1 + k) + 3 - k
        norm(x)
        flat = x.transpose(0, 1).flatten(1)  # [C, values]
        mean, variance = 0.99 * mean + 0.01 * flat.mean(1), 0.99 * variance + 0.01 * flat.var(1)
    mean, variance = mean / (1 - 0.99**steps), variance / (1 - 0.99**steps)
    if steps == 1:  # nothing but the batch
        torch.testing.assert_close((mean, variance), (flat.mean(1), flat.var(1)))

    y = torch.randn(shape, dtype=torch.float64)
    as_channel = (1, 3, *[1] * (len(shape) - 2))
    mean, scale = mean.view(as_channel), (norm.weight / (variance + 1e-3).sqrt()).view(as_channel)
    expected = (y - mean) * scale + norm.bias.view(as_channel)
    torch.testing.assert_close(norm.eval()(y), expected, rtol=1e-4, atol=1e-4)


def test_after_many_steps_batch_norm_is_torch_s_own():
    torch.manual_seed(0)
    ours, theirs = BatchNorm1d(4), nn.BatchNorm1d(4, momentum=0.01, eps=1e-3)
    for _ in range(2000):
        x = 2 * torch.randn(8, 4) + 1
        torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_untrained_batch_norm_is_the_identity():
    x = torch.randn(6, 4)
    torch.testing.assert_close(BatchNorm1d(4).eval()(x), x / math.sqrt(1 + 1e-3))


def test_frozen_statistics_normalises_by_the_batch_and_keeps_the_averages():
    decoder, z = build_decoder(1, 8, 4, width=0.05), torch.randn(6, 4)
    decoder(z)
    before = {name: value.clone() for name, value in decoder.named_buffers()}
    with frozen_statistics(decoder):
        inside = decoder(3 * z + 1)
    assert all(torch.equal(value, before[name]) for name, value in decoder.named_buffers())
    assert torch.equal(inside, decoder(3 * z + 1))  # the same output, but this time the averages move
    assert not any(torch.equal(value, before[name]) for name, value in decoder.named_buffers())


def test_frozen_statistics_may_be_nested_and_ends_after_an_error():
    norm, x = BatchNorm1d(4), torch.randn(6, 4)
    with pytest.raises(KeyError), frozen_statistics(norm):
        with frozen_statistics(norm):
            norm(x)
        norm(x)
        assert norm.num_batches_tracked == 0
        raise KeyError
    norm(x)
    assert norm.num_batches_tracked == 1


def test_noise_follows_its_generator_and_else_the_global_seed():
    first, again = (noise(5, 3, "cpu", torch.Generator().manual_seed(4)) for _ in range(2))
    assert first.shape == (5, 3)
    assert torch.equal(first, again)
    torch.manual_seed(4)
    assert torch.equal(noise(5, 3, "cpu"), first)
    assert not torch.equal(noise(5, 3, "cpu"), first)
