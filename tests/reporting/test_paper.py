"""The paper's values: that they are those printed, and how ours are compared with them."""

from __future__ import annotations

import pytest

from benchmark.core.errors import FlexbenchError
from benchmark.registry import BUILT_IN, Registry
from benchmark.reporting.paper import compare, published, to_markdown
from tests.reporting.test_tables import both, frame, row


@pytest.mark.parametrize(
    ("number", "rows", "where", "value"),
    [(1, 116, ("FlexAE-SR", "mnist", "gen_fd"), 6.75), (1, 116, ("FlexAE-SR", "mnist", "rec_fd"), 7.63),
     (1, 116, ("WAE-GAN", "fashion_mnist", "gen_fd"), 30.21), (2, 56, ("VAE", "mnist", "gen_precision_f1_8"), 0.68),
     (2, 56, ("VAE", "mnist", "gen_recall_f8"), 0.74), (3, 48, ("WAE-GAN", "mnist", "gen_fd"), 15.34),
     (4, 32, ("FlexAE-SR", "mnist", "pms_tr_tr"), 4.72), (4, 32, ("FlexAE-SR", "celeba", "ims_gen_te"), 9.34)],
)  # fmt: skip
def test_values_are_those_of_the_paper(number, rows, where, value):
    table = published(number)
    assert len(table) == rows
    here = (table[["title", "dataset", "family"]] == where).all(axis=1)
    assert table[here].value.iloc[0] == value


def test_every_row_of_the_paper_but_the_gan_is_a_model_here():
    titles = {Registry().get(name).title for name in BUILT_IN}
    for number in (1, 2, 3, 4):
        assert set(published(number).title) - titles <= {"Best GAN (approx)"}


def of(*scores, **more):
    """Rows for titles with generation scores; reconstruction scores are one less."""
    return frame(*(r for t, g in scores for r in both(t, g - 1, g, title=t, **more)))


def test_rank_correlation_of_the_paper_s_own_order_is_one_and_of_its_reverse_minus_one():
    paper = published(1).query("dataset == 'mnist' and family == 'gen_fd' and title != 'Best GAN (approx)'")
    order = list(paper.sort_values("value").title)
    for sign, rho in ((1, 1.0), (-1, -1.0)):
        (_, gen) = compare(of(*((t, 100 + sign * i) for i, t in enumerate(order))), 1)
        assert gen.heading == "Gen." and len(gen.frame) == 14
        assert gen.rho == pytest.approx(rho)


def test_rank_correlation_by_hand():
    # paper, mnist Gen.: FlexAE-SR 6.75 < FlexAE < WAE-GAN 13.60 < VAE 56.07; ours swaps the first two
    (_, gen) = compare(of(("FlexAE", 1), ("FlexAE-SR", 2), ("WAE-GAN", 3), ("VAE", 4)), 1)
    assert gen.rho == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert list(gen.frame.index) == ["FlexAE", "FlexAE-SR", "WAE-GAN", "VAE"]
    assert list(gen.frame.paper_rank) == [2, 1, 3, 4]


def test_values_stand_beside_each_other_only_where_the_protocol_is_the_same():
    assert "56.07" not in to_markdown(compare(of(("VAE", 50.0), ("FlexAE", 2.0), ("WAE-GAN", 3.0)), 1))
    rows = [
        row(t, f, v, title=t, metric=f"{f[:3]}_fid10k_test", preset="paper", space="inception")
        for t, v in (("VAE", 50.0), ("FlexAE", 2.0), ("WAE-GAN", 3.0))
        for f in ("rec_fd", "gen_fd", "real_fd")
    ]
    text = to_markdown(compare(frame(*rows), 1))
    assert "| VAE | 50 | 56.07 | 3 | 3 |" in text
    assert "Only the order" not in text


def test_of_several_settings_the_one_chosen_on_validation_images_is_compared():
    rows = []
    for variant, val, gen in (("a", 9.0, 1.0), ("b", 8.0, 5.0)):
        rows += both("VAE", gen, gen, title="VAE", variant=variant, hash=variant, settings=f"x={variant}")
        rows.append(row("VAE", "gen_fd_val", val, title="VAE", variant=variant, hash=variant))
    (_, gen) = compare(frame(*rows), 1)
    assert gen.frame.loc["VAE", "ours"] == 5.0


def test_settings_are_compared_by_validation_scores_of_the_same_space():
    rows = []
    for variant, val, gen in (("a", 5.0, 1.0), ("b", 9.0, 2.0)):
        rows += both("VAE", gen, gen, title="VAE", variant=variant, hash=variant)
        rows.append(row("VAE", "gen_fd_val", val, title="VAE", variant=variant, hash=variant))
    rows.append(row("VAE", "gen_fd_val", 250.0, title="VAE", variant="a", hash="a", space="pixels"))
    (_, gen) = compare(frame(*rows), 1)
    assert gen.frame.loc["VAE", "ours"] == 1.0


def test_models_are_compared_at_the_latent_size_that_most_of_them_have():
    rows = [*both("VAE", 9, 9, title="VAE"), *both("WAE-GAN", 5, 5, title="WAE-GAN")]
    rows += both("VAE", 1, 1, title="VAE", latent_dim=64, variant="big", hash="big")
    (_, gen) = compare(frame(*rows), 1)
    assert gen.frame.loc["VAE", "ours"] == 9


def test_tables_without_a_row_per_model_are_refused(flexbench, tmp_path):
    with pytest.raises(FlexbenchError, match="tables 1 and 2"):
        compare(frame(*both("VAE", 1, 2)), 4)
    result = flexbench("table", "4", "--published", "--out", tmp_path)
    assert result.exit_code == 2 and "table 1 --published" in result.output
