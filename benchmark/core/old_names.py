"""Names in files that earlier versions wrote, and the names that replace them.

Readers of train.jsonl apply `current_log_row`, readers of diagnostics OLD_DIAGNOSTIC_NAMES, readers of result rows
`current_family`. Rows with current names pass unchanged, because no current name is an old one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

V = TypeVar("V")
LOSS = "loss/"  # prefix of the losses in a row of train.jsonl

OLD_LOSS_NAMES = {
    "absolute": "absolute_error",
    "code_penalty": "code_regulariser",
    "correction": "log_density_ratio",
    "critic": "critic_loss",
    "decoder_penalty": "decoder_regulariser",
    "discriminator": "disc_loss",
    "encoder": "adv_loss",
    "fooled": "adv_loss",
    "generator": "generator_loss",
    "image_critic": "image_critic_loss",
    "latent": "latent_loss",
    "mask": "mask_loss",
    "prior": "prior_adv_loss",
    "ratio": "disc_loss",
    "smooth": "image_adv_loss",
}

# Two old names had two meanings. Another loss of the same row tells which: name of that loss -> {old name: new name}.
OLD_LOSS_NAMES_BESIDE = {
    "absolute": {"encoder": "encoder_loss"},  # the encoder's whole loss, with its reconstruction term
    "distance": {"discriminator": "critic_loss"},  # the discriminator was a Wasserstein critic
}

OLD_DIAGNOSTIC_NAMES = {
    "clipped_share": "clipped_ratio",
    "correction": "log_density_ratio",
    "effective_share": "effective_ratio",
    "latent": "latent_loss",
    "latent_loss_share": "latent_loss_ratio",
    "pseudo_inputs_used": "pseudo_input_perplexity",
}


def current_loss_names(losses: Mapping[str, V]) -> dict[str, V]:
    """Return the losses of one log row under their current names.

    >>> current_loss_names({"reconstruction": 3.0, "critic": -0.5, "encoder": 0.1})
    {'reconstruction': 3.0, 'critic_loss': -0.5, 'adv_loss': 0.1}
    >>> current_loss_names({"encoder": 1.2, "absolute": 0.4})
    {'encoder_loss': 1.2, 'absolute_error': 0.4}
    """
    names = dict(OLD_LOSS_NAMES)
    for beside, exceptions in OLD_LOSS_NAMES_BESIDE.items():
        if beside in losses:
            names |= exceptions
    return {names.get(name, name): value for name, value in losses.items()}


def current_family(family: str) -> str:
    """Return the current name of a family of scores.

    >>> current_family("pms_share_gen"), current_family("gen_fd")
    ('pms_ratio_gen', 'gen_fd')
    """
    return family.replace("ms_share_", "ms_ratio_") if family.startswith(("pms_share_", "ims_share_")) else family


def current_log_row(row: Mapping[str, V]) -> dict[str, V]:
    """Return a row of train.jsonl with the current names of its losses, which carry the prefix "loss/" there.

    >>> current_log_row({"phase": "train", "step": 5, "loss/fooled": 0.5})
    {'phase': 'train', 'step': 5, 'loss/adv_loss': 0.5}
    """
    losses = {key.removeprefix(LOSS): value for key, value in row.items() if key.startswith(LOSS)}
    others = {key: value for key, value in row.items() if not key.startswith(LOSS)}
    return others | {LOSS + name: value for name, value in current_loss_names(losses).items()}
