"""The page in a real browser: it loads whole, sorts, keeps real images last, and runs nothing that others wrote."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmark.reporting import report
from benchmark.reporting.tables import FLOOR
from tests import fabricated
from tests.fabricated import HOSTILE

# A picture inside the drawing, a style, a style attribute, and a script, which must not run.
PLOT = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="90" height="90">
<style>circle {fill: #0000ff}</style><script>alert(1)</script><rect width="50" height="50" style="fill: #00ff00"/>
<circle cx="70" cy="70" r="15"/><image x="50" width="40" height="40" xlink:href="data:image/png;base64,PNG"/></svg>"""
SORTED = "#table-1 tbody:first-of-type tr th"  # names of the models from top to bottom


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with everything in it, a drawing too."""
    out = fabricated.site(tmp_path_factory.mktemp("site"))
    with pytest.MonkeyPatch.context() as patch:
        picture = io.BytesIO()
        Image.new("RGB", (4, 4), "#ff0000").save(picture, "png")
        svg = PLOT.replace("PNG", base64.b64encode(picture.getvalue()).decode()).encode()
        patch.setattr(report, "draw_figures", lambda *_, **__: [report.embed("A figure", f"of {HOSTILE}", svg)])
        return report.write(out)


@pytest.fixture(scope="module")
def visit(browser: Any, file: Path) -> Iterator[Callable[..., Any]]:
    """Open the page; its complaints, requests and dialogs are kept in `page.heard`."""
    contexts = []

    def open_page(width: int = 1440, **options: Any) -> Any:
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **options))
        page = contexts[-1].new_page()
        page.heard = []
        page.on("console", lambda message: page.heard.append(message.text))
        page.on("pageerror", lambda error: page.heard.append(str(error)))
        page.on("dialog", lambda dialog: (page.heard.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: page.heard.append(request.url) if _outside(request.url) else None)
        page.goto(file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def still(visit: Callable[..., Any]) -> Any:
    """One page for the tests that only look."""
    return visit()


def _outside(url: str) -> bool:
    return not url.startswith(("file:", "data:"))


def column(page: Any) -> list[str]:
    """The models of table 1 from top to bottom."""
    return [name.split(" [")[0].strip() for name in page.locator(SORTED).all_text_contents()]


def test_it_loads_whole_and_quietly(still):
    assert still.title() == "Generative auto-encoders on digits and mnist - flexbench report"
    assert still.locator("h2").all_text_contents() == [
        "Summary", "Tables", "Samples and reconstructions", "Figures", "Diagnostics", "Protocol and provenance",
    ]  # fmt: skip
    pictures = still.locator("main img")
    assert pictures.count() == 13
    assert pictures.evaluate_all("all => all.every(one => one.complete && one.naturalWidth > 0)")
    assert still.heard == []


def test_what_others_wrote_makes_no_element(still):
    assert still.locator("img[src=x], [onerror]").count() == 0
    assert still.get_by_text(HOSTILE).count() >= 5
    assert still.heard == []


def test_a_drawing_keeps_its_colours_under_the_policy(still):
    image = still.get_by_role("img", name=f"A figure. of {HOSTILE}")
    assert image.count() == 1
    pixels = Image.open(io.BytesIO(image.screenshot())).convert("RGB")
    places = [(20, 20), (70, 70), (70, 20)]
    assert [pixels.getpixel(place) for place in places] == [(0, 255, 0), (0, 0, 255), (255, 0, 0)]
    assert still.heard == []


def test_sorting_by_click(visit):
    page = visit()
    heading = page.locator("#table-1 .heads th").nth(4)  # mnist Gen.
    before = column(page)
    assert before == ["VAE", "WAE-GAN", "FlexAE", HOSTILE]
    heading.get_by_role("button").click()
    assert column(page) == ["FlexAE", "VAE", "WAE-GAN", HOSTILE]
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.get_by_role("button").click()
    assert column(page) == [HOSTILE, "WAE-GAN", "VAE", "FlexAE"]
    assert heading.get_attribute("aria-sort") == "descending"
    assert page.locator("#table-1 tbody tr").last.inner_text().startswith(FLOOR)
    assert page.locator("[aria-sort]").count() == 1


def test_missing_values_stay_last_and_ties_keep_their_order(visit):
    page = visit()
    digits, rank, model = (page.locator("#table-1 .heads button").nth(i) for i in (1, 5, 0))
    for order in (["FlexAE", "VAE", "WAE-GAN", HOSTILE], ["VAE", "FlexAE", "WAE-GAN", HOSTILE]):
        digits.click()
        assert column(page) == order
    model.click()
    assert column(page) == [HOSTILE, "FlexAE", "VAE", "WAE-GAN"]
    rank.click()  # the two without a mean rank keep the order of their names
    assert column(page) == ["FlexAE", "VAE", HOSTILE, "WAE-GAN"]


def test_the_best_comes_first_where_higher_is_better(visit):
    page = visit()
    page.locator("#table-2 .heads button").nth(1).click()
    assert page.locator("#table-2 .heads th").nth(1).get_attribute("aria-sort") == "descending"
    assert page.locator("#table-2 tbody th").all_text_contents() == ["FlexAE", "VAE", FLOOR]


def test_everything_works_from_the_keyboard(visit):
    page = visit()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.locator("#table-1 .heads button").nth(3).focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Gen."
    page.keyboard.press("Enter")
    assert column(page)[0] == "FlexAE"
    page.keyboard.press("Space")
    assert column(page)[0] == HOSTILE
    assert page.get_by_role("status").text_content() == "sorted by Gen., descending"
    page.locator(".zoom").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("dialog img").evaluate("one => one.naturalWidth") > 0
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    assert page.heard == []


def test_two_models_side_by_side(visit):
    page = visit()
    gallery = page.locator(".gallery").last
    assert gallery.locator(".card:visible").count() == 4
    gallery.get_by_label("Show").select_option("VAE")
    gallery.get_by_label("beside").select_option("FlexAE")
    first, second = (gallery.locator(".card:visible").nth(i).bounding_box() for i in (0, 1))
    assert gallery.locator(".card:visible").count() == 2
    assert first["y"] == second["y"] and first["x"] + first["width"] < second["x"]


# Contrast of every text with what lies behind it, by the formula of WCAG 2; lists those below 4.5.
CONTRAST = """() => {
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const color = parse(getComputedStyle(one).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll("body *:not(script):not(svg *)")]
    .filter((one) => one.checkVisibility() && [...one.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
    .map((one) => {
      const [a, b] = [light(parse(getComputedStyle(one).color)), light(behind(one))].sort((x, y) => y - x);
      return [(a + 0.05) / (b + 0.05), one.tagName + " " + one.textContent.slice(0, 40)];
    })
    .filter(([ratio]) => ratio < 4.5);
}"""


@pytest.mark.parametrize(("scheme", "paper"), [("light", "rgb(251, 250, 248)"), ("dark", "rgb(19, 21, 24)")])
def test_light_and_dark_can_be_read(still, scheme: str, paper: str):
    still.emulate_media(color_scheme=scheme)
    assert still.evaluate("getComputedStyle(document.body).backgroundColor") == paper
    assert still.evaluate(CONTRAST) == []


@pytest.mark.parametrize("width", [380, 800, 1440])
def test_only_tables_scroll_sideways(still, width: int):
    still.set_viewport_size({"width": width, "height": 900})
    assert still.evaluate("document.documentElement.scrollWidth") == width
    box = still.locator("#runs .scroll")
    box.evaluate("one => { one.scrollLeft = 200 }")
    assert box.locator("tbody th").first.bounding_box()["x"] == pytest.approx(box.bounding_box()["x"] + 1, abs=1)


def test_without_scripts_all_is_there(visit):
    page = visit(java_script_enabled=False)
    assert page.locator(".cards .card:visible").count() == 6
    assert page.locator("#table-1 tbody tr:visible").count() == 5
    assert page.locator(".compare:visible").count() == 0
    assert page.locator("button:visible:enabled").count() == 0
    assert page.heard == []
