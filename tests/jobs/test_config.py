"""What names a run: its hash, its JSON, and the settings that make it."""

import dataclasses
import json

import pytest

from baselines.vae import VAE, VAEConfig
from baselines.wae_gan import WAEGANConfig
from benchmark.core.errors import FlexbenchError
from benchmark.jobs.config import PRESETS, JobConfig, Overrides, TrainConfig, label, preset
from flexae.flexae import FlexAEConfig

TRAIN = TrainConfig(steps=30, batch_size=32, width=0.125, lr_factor=5.0)


def job(**changes):
    values = {
        "model": "vae", "dataset": "digits", "data": {"name": "digits", "channels": 1, "size": 8}, "latent_dim": 4,
        "seed": 0, "train": TRAIN, "method": dataclasses.asdict(VAEConfig(4, 0.125)), "preset": "smoke",
    }  # fmt: skip
    return JobConfig(**values | changes)


def knobs(config_class=VAEConfig, section="vae", pairs=(), file=None):
    return Overrides.parse(pairs, file).method(section, config_class, latent_dim=4, width=0.5)


def budget(pairs=(), **options):
    return Overrides.parse(pairs, **options).train(TRAIN)


# -- hash and JSON ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "wae-gan"},
        {"dataset": "mnist"},
        {"data": {"name": "digits", "channels": 1, "size": 12}},
        {"latent_dim": 5},
        {"seed": 1},
        *({"train": dataclasses.replace(TRAIN, **{f: 2})} for f in ("steps", "batch_size", "width", "lr_factor")),
        {"train": dataclasses.replace(TRAIN, precision="bf16")},
        *({"method": {**job().method, knob: 3.5}} for knob in job().method),
        {"model_version": "2"},
        {"dataset_hash": "abc"},
        {"protocol": 0},
    ],
    ids=str,
)
def test_hash_changes_with_all_that_changes_results(changes):
    assert job(**changes).hash != job().hash


def test_hash_ignores_the_label_and_the_order_of_knobs():
    assert job(preset="paper").hash == job().hash
    assert job(preset="paper") == job()
    assert job(method=dict(reversed(job().method.items()))).hash == job().hash


def test_the_hash_is_stable():
    """It names the folders of finished runs. A new field changes it for good reason only."""
    assert job().hash == "8844a428"


def test_repetitions_share_a_variant_and_nothing_else_does():
    assert job(seed=1).variant == job().variant != job().hash
    assert job(preset="paper").variant == job().variant
    assert len({job().variant, job(latent_dim=5).variant, job(dataset="mnist").variant}) == 3


def test_settings_name_the_knobs_that_were_changed():
    changed = dataclasses.asdict(VAEConfig(4, 0.125, beta=2.0))
    assert job().settings(VAE) == ""
    assert job(method=changed).settings(VAE) == "beta=2.0"


def test_every_field_is_hashed_or_a_label():
    assert {f.name for f in dataclasses.fields(JobConfig) if not f.compare} == {"preset"}


def test_json_round_trip_keeps_everything():
    config = job(dataset_hash="abc", model_version="f00")
    again = JobConfig.from_json(json.loads(json.dumps(config.to_json())))
    assert again == config
    assert (again.hash, again.preset, again.train) == (config.hash, config.preset, config.train)
    assert config.to_json()["hash"] == config.hash


@pytest.mark.parametrize("change", [{"colour": "red"}, {"train": {"steps": 1}}, {"train": {"speed": 1}}])
def test_json_of_another_version_is_refused(change):
    with pytest.raises(FlexbenchError, match=r"config\.json is not one of this version"):
        JobConfig.from_json(job().to_json() | change)


def test_json_without_a_field_is_refused():
    value = job().to_json()
    del value["train"]
    with pytest.raises(FlexbenchError, match="not one of this version"):
        JobConfig.from_json(value)


def test_a_config_rebuilds_its_model():
    config = job(method=dataclasses.asdict(VAEConfig(4, 0.125, beta=3.0)))
    method = config.build(VAE)
    assert method.config == VAEConfig(4, 0.125, beta=3.0)
    assert (method.data.name, method.data.pixels) == ("digits", 64)
    assert (config.budget.steps, config.budget.batch_size) == (30, 32)


def test_unknown_preset_lists_the_valid_ones():
    with pytest.raises(FlexbenchError, match=r"unknown preset 'cpus'\. Did you mean 'cpu'\?.*paper, smoke"):
        preset("cpus")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_pass_their_own_checks(name):
    assert Overrides().train(preset(name).train) == preset(name).train


# -- overrides ----------------------------------------------------------------------------------------------------


def test_options_win_over_set_and_set_over_the_file(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("train: {steps: 1, batch_size: 11, width: 0.1}\nvae:\n  beta: 7\n  decoder_variance: 0.7\n")
    settings = Overrides.parse(["train.steps=2", "train.batch_size=22", "vae.beta=8"], file, steps=3, width=None)
    assert settings.train(TRAIN) == dataclasses.replace(TRAIN, steps=3, batch_size=22, width=0.1)
    assert settings.method("vae", VAEConfig, 4, 0.5) == VAEConfig(4, 0.5, beta=8.0, decoder_variance=0.7)
    assert settings.method("wae-gan", WAEGANConfig, 4, 0.5) == WAEGANConfig(4, 0.5)


def test_a_later_pair_wins_and_nothing_changes_without_any():
    assert budget(["train.steps=2", "train.steps=4"]).steps == 4
    assert budget() == TRAIN
    assert knobs() == VAEConfig(4, 0.5)


def test_unknown_section_gets_a_suggestion():
    with pytest.raises(FlexbenchError, match=r"section of settings 'flexea'\. Did you mean 'flexae'\?.*train, vae"):
        Overrides.parse(["flexea.penalty=1"]).check_sections(["vae", "flexae"])
    Overrides.parse(["train.steps=1", "vae.beta=1"]).check_sections(["vae", "flexae"])


@pytest.mark.parametrize(
    ("function", "pair", "guess"),
    [(knobs, "vae.bta=1", "vae.beta"), (budget, "train.stpes=1", "train.steps")],
)
def test_unknown_key_gets_a_suggestion(function, pair, guess):
    with pytest.raises(FlexbenchError, match=rf"unknown setting '{pair[:-2]}'\. Did you mean '{guess}'\? Valid: "):
        function(pairs=[pair])


@pytest.mark.parametrize(
    ("text", "value"), [("2", 2.0), ("2.5", 2.5), ("1e-3", 0.001), ("'1e-3'", 0.001), ("1.5e+2", 150.0)]
)
def test_a_float_may_be_written_in_any_way(text, value):
    beta = knobs(pairs=[f"vae.beta={text}"]).beta
    assert (beta, type(beta)) == (value, float)


def test_equal_settings_have_one_hash():
    a, b = (dataclasses.asdict(knobs(pairs=[f"vae.beta={text}"])) for text in ("2", "2.0"))
    assert job(method=a).hash == job(method=b).hash


@pytest.mark.parametrize(
    "pair",
    [
        "vae.beta=high", "vae.beta=", "vae.beta=true", "vae.beta=null", "vae.beta=nan", "vae.beta=.inf",
        "vae.beta=[1, 2]", "vae.beta={a: 1}", "vae.beta=[1", "vae.beta=*x",
    ],
)  # fmt: skip
def test_what_is_not_a_float_is_refused(pair):
    with pytest.raises(FlexbenchError, match=r"vae\.beta"):
        knobs(pairs=[pair])


@pytest.mark.parametrize("text", ["2.0", "2.5", "true", "null", "two", "1e3"])
def test_what_is_not_an_int_is_refused(text):
    with pytest.raises(FlexbenchError, match=r"train\.steps.*must be int"):
        budget([f"train.steps={text}"])


@pytest.mark.parametrize(("text", "value"), [("null", None), ("~", None), ("8", 8)])
def test_optional_knobs_take_null(text, value):
    assert knobs(FlexAEConfig, "flexae", [f"flexae.noise_dim={text}"]).noise_dim == value


def test_optional_knobs_refuse_other_types():
    with pytest.raises(FlexbenchError, match=r"flexae\.noise_dim.*int or null"):
        knobs(FlexAEConfig, "flexae", ["flexae.noise_dim=2.5"])


@pytest.mark.parametrize(("text", "value"), [("false", False), ("no", False), ("true", True)])
def test_switches_are_booleans(text, value):
    assert knobs(FlexAEConfig, "flexae", [f"flexae.norm_sees_prior={text}"]).norm_sees_prior is value
    with pytest.raises(FlexbenchError, match="must be bool"):
        knobs(FlexAEConfig, "flexae", ["flexae.norm_sees_prior=1"])


@pytest.mark.parametrize(("name", "option"), [("latent_dim", "--latent-dim"), ("width", "--width")])
def test_what_all_models_share_is_not_set_for_one(name, option):
    with pytest.raises(FlexbenchError, match=rf"'vae\.{name}' is shared .* use {option}"):
        knobs(pairs=[f"vae.{name}=1"])


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", 0), ("batch_size", 1), ("width", 0.0), ("width", -1.0), ("lr_factor", 0.0), ("precision", "fp64")],
)
def test_budgets_that_cannot_be_trained_with_are_refused(name, value):
    for settings in (Overrides.parse([f"train.{name}={value}"]), Overrides.parse(**{name: value})):
        with pytest.raises(FlexbenchError, match=rf"train\.{name}: {value} is not valid; it must be"):
            settings.train(TRAIN)


@pytest.mark.parametrize("pair", ["beta=2", "vae.beta", "vae.=2", "=2", "vae=2", ""])
def test_a_pair_of_another_form_is_refused(pair):
    with pytest.raises(FlexbenchError, match=r"is not of the form .* e\.g\. --set vae\.beta=2"):
        Overrides.parse([pair]).check_sections(["vae"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"vae: [1", "is not YAML"),
        (b"- 1", "must hold sections"),
        (b"vae: 3", "must hold sections"),
        (b"vae:", "must hold sections"),
        (b"\xff\xfe\x00", r"settings\.yaml"),
        (b"1: {beta: 2}", r"settings\.yaml|unknown section"),
    ],
)
def test_a_bad_settings_file_is_named(tmp_path, text, message):
    file = tmp_path / "settings.yaml"
    file.write_bytes(text)
    with pytest.raises(FlexbenchError, match=message):
        Overrides.parse(file=file).check_sections(["vae"])


def test_a_missing_settings_file_is_named_and_an_empty_one_is_fine(tmp_path):
    with pytest.raises(FlexbenchError, match="cannot read"):
        Overrides.parse(file=tmp_path / "none.yaml")
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert Overrides.parse(file=tmp_path / "empty.yaml").train(TRAIN) == TRAIN


def test_label_says_what_was_changed():
    assert label("smoke", TRAIN, TRAIN) == "smoke"
    changed = budget(["train.steps=500", "train.precision=bf16"])
    assert label("smoke", TRAIN, changed) == "smoke[steps=500,precision=bf16]"
