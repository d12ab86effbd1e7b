"""`flexbench ui` in a real browser: two runs side by side."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from benchmark.running.tracking import default_uri, make_tracker
from tests.running.test_tracking import serving

SUITE, METRIC = "digits smoke", "gen_fd256_test@pixels"
NAMES = ("vae-m16-s0", "flexae-m16-s0")


@pytest.fixture(scope="module")
def server(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `flexbench ui` over a store with two runs; where there is no browser it is not started."""
    out = tmp_path_factory.mktemp("ui")
    for place, name in enumerate(NAMES):
        folder = out / "runs" / name
        folder.mkdir(parents=True)
        tracker = make_tracker(default_uri(out), out, folder)
        tracker.start(SUITE, name, {"latent_dim": 16}, {"model": name.partition("-")[0]})
        tracker.log({METRIC: 400.5 + place}, 30)
        tracker.finish("FINISHED")
        assert not tracker.down
    with serving(out) as (address, _):
        yield address


def post(url: str, content: dict) -> dict:
    request = urllib.request.Request(url, json.dumps(content).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_two_runs_can_be_compared(browser: Any, server: str):
    api = f"{server}/api/2.0/mlflow"
    experiment = post(f"{api}/experiments/search", {"max_results": 10})["experiments"]
    (number,) = [e["experiment_id"] for e in experiment if e["name"] == SUITE]
    runs = post(f"{api}/runs/search", {"experiment_ids": [number]})["runs"]
    assert {run["info"]["run_name"] for run in runs} == set(NAMES)

    ids = json.dumps([run["info"]["run_id"] for run in runs])
    query = urllib.parse.urlencode({"runs": ids, "experiments": json.dumps([number])})
    page = browser.new_context(viewport={"width": 1400, "height": 1000}).new_page()
    page.goto(f"{server}/#/compare-runs?{query}", wait_until="commit")
    for words in (*NAMES, "gen_fd256_test/pixels"):
        page.get_by_text(words).first.wait_for(state="visible", timeout=60_000)
    page.context.close()
