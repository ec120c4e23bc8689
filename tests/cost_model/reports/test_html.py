"""The report is one file that asks for nothing, and its script does what its controls promise, in a real browser."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from cost_model.reports.html import Report
from sim.reference import InputError

REPORT = Report(
    title="points & <b>more</b>", origin="a command", objectives=("error", "mm2"),
    command="build f.json#POINT -o POINT",
    filters=("bits", "same"), breakdowns={"area": ("units", "memories")}, hidden=("secret",),
)  # fmt: skip
ROWS: list[dict[str, Any]] = [
    {"point": f"p{k}", "label": "</script><i>" if k == 2 else None, "on_front": k < 3, "error": 0.1 * (k + 1),
     "mm2": 9.0 - k, "bits": 4 + 4 * (k % 2), "same": 1, "units": 3.0, "memories": 6.0 - k, "secret": "x"}
    for k in range(4)
]  # fmt: skip
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

# what a reader does, and what is then seen; the result is read from the page
SCRIPT = """
const seen = {errors: []};
addEventListener("error", event => seen.errors.push(event.message));
const all = query => [...document.querySelectorAll(query)];
const change = (name, value) => {
  const box = document.querySelector(`[data-name="${name}"]`);
  box.type === "checkbox" ? box.checked = value : box.value = value;
  box.dispatchEvent(new Event("change"));
};
const listed = () => all("#body tr").map(line => line.dataset.point);
const drawn = () => all("circle").map(dot => dot.dataset.point).sort();
seen.title = document.querySelector("h1").textContent;
seen.filters = all("#filters select").map(box => box.dataset.name);
seen.columns = all("#head th").map(cell => cell.textContent);
seen.first = listed();
document.querySelector('[data-column="mm2"]').click();
seen.ascending = listed();
document.querySelector('[data-column="mm2"]').click();
seen.descending = listed();
document.querySelector('circle[data-point="p2"]').dispatchEvent(new MouseEvent("mousemove", {clientX: 5, clientY: 5}));
seen.tip = document.querySelector("#tip").textContent;
document.querySelector('circle[data-point="p2"]').dispatchEvent(new MouseEvent("click"));
seen.command = document.querySelector("#command").textContent;
seen.bars = all(".bar span").map(bar => bar.title);
seen.picked = all("tr.picked").map(line => line.dataset.point);
change("bits", "8");
seen.eight = [listed().sort(), drawn()];
change("bits", "all");
change("only the front", true);
seen.front = drawn();
change("x", "bits");
seen.axis = all("#plot text").map(text => text.textContent).includes("bits");
const result = document.createElement("pre");
result.id = "result";
result.textContent = JSON.stringify(seen);
document.body.append(result);
"""


class Tags(HTMLParser):
    """Every tag and its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_asks_for_nothing_and_holds_its_rows() -> None:
    page = REPORT.page(ROWS)
    tags = Tags()
    tags.feed(page)
    assert not [tag for tag, attributes in tags.found if {"src", "href", "action"} & set(attributes)]
    assert any("default-src 'none'" in (attributes.get("content") or "") for _, attributes in tags.found)
    assert set(re.findall(r"https?://[^\"'\s]*", page)) == {"http://www.w3.org/2000/svg"}  # the name of a kind of tag
    assert page.count("</script>") == 2 and "<b>" not in page
    data = json.loads(re.findall(r'id="data">(.*?)</script>', page, re.S)[0])
    assert data["rows"] == ROWS and data["filters"] == ["bits"]
    assert page == REPORT.page(ROWS)


@pytest.mark.skipif(BROWSER is None, reason="needs chromium, which the system's packages have")
def test_sorting_hovering_filters_and_a_click_work_in_a_browser(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(REPORT.page(ROWS).replace("</body>", f"<script>{SCRIPT}</script></body>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    shot = tmp_path / "page.png"
    command = [str(BROWSER), *options, "--dump-dom", f"--screenshot={shot}", page.as_uri()]
    text = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.findall(r'<pre id="result">(.*?)</pre>', text, re.S)
    assert found, "the script did not come to its end"
    seen = json.loads(found[0].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert seen["errors"] == [] and seen["title"] == REPORT.title
    assert seen["filters"] == ["bits"] and "secret" not in seen["columns"]
    assert seen["first"] == ["p0", "p1", "p2", "p3"] == seen["descending"] == seen["ascending"][::-1]
    assert seen["tip"].startswith("</script><i>\np2\nerror: 0.3000")
    assert seen["command"] == "build f.json#p2 -o p2" and seen["picked"] == ["p2"]
    assert seen["bars"] == ["units", "memories"]
    assert seen["eight"] == [["p1", "p3"], ["p1", "p3"]] and seen["front"] == ["p0", "p1", "p2"] and seen["axis"]
    assert shot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("rows", "line"), [([], "at least one point"), ([{"point": "p"}], "'on_front'")])
def test_a_report_of_other_rows_is_one_line(rows: list[dict], line: str) -> None:
    with pytest.raises(InputError, match=line):
        REPORT.page(rows)
