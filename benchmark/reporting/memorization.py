"""Does a model memorise? A plain verdict per model from the scores of table 4. Imports no torch."""

from __future__ import annotations

import math

import pandas as pd

SURE = 3.0  # standard errors: exceeded by chance once in about 700 tests
YES, NO, UNSURE = "memorises", "no sign of it", "cannot tell"
RULE = (
    f"Verdict: '{YES}' where the nearest real image is a training image more often than it is for held-out images, in "
    f"pixels or in features, by more than {SURE:g} standard errors of the difference; '{UNSURE}' where even copies "
    f"would not be told apart (few images, or a model that makes few); else '{NO}'."
)
RATIOS = {"pms_ratio_gen": "pms_ratio_val", "ims_ratio_gen": "ims_ratio_val"}  # of generated and of held-out images


def judge(models: pd.DataFrame, rows: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Dataset -> row -> verdict. `models` are the rows of models, with their `row`; `rows` hold the controls too.

    What was scored before these shares were measured has none. Values and errors of several seeds are ema_modules: the
    errors too, since all seeds meet the same real images.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for (dataset, row, family), group in models[models.family.isin(RATIOS)].groupby(["dataset", "row", "family"]):
        control = rows[(rows.dataset == dataset) & (rows.family == RATIOS[family])]
        if len(control):
            one = verdict(group.value.mean(), group.se.mean(), control.value.iloc[0], control.se.iloc[0])
            found.setdefault((dataset, row), []).append(one)
    verdicts: dict[str, dict[str, str]] = {}
    for (dataset, row), words in found.items():
        verdicts.setdefault(dataset, {})[row] = min(words, key=(YES, NO, UNSURE).index)
    return verdicts


def verdict(share: float, se: float, control: float, control_se: float) -> str:
    """Of one share, of generated images, against that of held-out ones."""
    if excess(share, se, control, control_se) > SURE:
        return YES
    return NO if excess(1.0, se, control, control_se) > SURE else UNSURE


def excess(share: float, se: float, control: float, control_se: float) -> float:
    """By how many standard errors of the difference one share is above another."""
    return (share - control) / math.hypot(se, control_se)
