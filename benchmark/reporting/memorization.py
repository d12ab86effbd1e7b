"""Does a model memorise? One verdict for each model, from the scores of table 4. Imports no torch."""

from __future__ import annotations

import math

import pandas as pd

THRESHOLD = 3.0  # standard errors; chance exceeds it once in about 700 tests
YES, NO, UNSURE = "memorises", "no sign of it", "cannot tell"
RULE = (
    f"Verdict '{YES}': in pixels or in features, the nearest real image is a training image more often for generated "
    f"than for held-out images, by more than {THRESHOLD:g} standard errors of the difference. '{UNSURE}': there are "
    "too few images, or too few real images near them; even a model that only copies would not get the verdict "
    f"'{YES}'. '{NO}': all other cases."
)
RATIOS = {"pms_ratio_gen": "pms_ratio_val", "ims_ratio_gen": "ims_ratio_val"}  # generated images -> held-out images


def judge(models: pd.DataFrame, rows: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Return dataset -> row -> verdict.

    Values are averaged over seeds. Standard errors are averaged too, because all seeds meet the same real images. Runs
    that were scored before these ratios were measured get no verdict.

    Args:
        models: rows of models, with their table row in `row`.
        rows: the same rows and those of the controls.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for (dataset, row, family), group in models[models.family.isin(RATIOS)].groupby(["dataset", "row", "family"]):
        control = rows[(rows.dataset == dataset) & (rows.family == RATIOS[family])]
        if len(control):
            result = verdict(group.value.mean(), group.se.mean(), control.value.iloc[0], control.se.iloc[0])
            found.setdefault((dataset, row), []).append(result)
    verdicts: dict[str, dict[str, str]] = {}
    for (dataset, row), results in found.items():
        verdicts.setdefault(dataset, {})[row] = min(results, key=(YES, NO, UNSURE).index)
    return verdicts


def verdict(ratio: float, se: float, control: float, control_se: float) -> str:
    """Return the verdict on one ratio, that of generated images, against that of held-out images."""
    if z_score(ratio, se, control, control_se) > THRESHOLD:
        return YES
    return NO if z_score(1.0, se, control, control_se) > THRESHOLD else UNSURE


def z_score(ratio: float, se: float, control: float, control_se: float) -> float:
    """Return by how many standard errors of the difference a ratio is above the control."""
    return (ratio - control) / math.hypot(se, control_se)
