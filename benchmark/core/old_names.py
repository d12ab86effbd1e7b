"""Names of losses and diagnostics in files that earlier versions wrote, and the names that replace them.

Readers of train.jsonl apply `current_loss_names` to the losses of one row, without the prefix "loss/". Readers of
diagnostics apply OLD_DIAGNOSTIC_NAMES. Rows with current names pass unchanged, because no current name is an old one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

V = TypeVar("V")

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
