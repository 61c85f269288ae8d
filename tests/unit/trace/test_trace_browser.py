"""The page of a trace in a real browser: drawn, searchable, quick with 5,000 spans, and without a message on its console."""

import re
import shutil
import subprocess
import tempfile
from html import unescape
from pathlib import Path

import pytest
from test_trace_analysis import Maker

from atoll.trace import page

CHROMIUM = shutil.which("chromium")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium: scripts/packages chromium")

SCRIPT = """<script>
const told = {}, count = (selector) => document.querySelectorAll(selector).length;
told.rows = count(".row"); told.height = document.querySelector("#rows > div").style.height;
const search = document.getElementById("search");
const begun = performance.now();
for (const text of ["n", "ne", "needle"]) { search.value = text; search.dispatchEvent(new Event("input")); }
told.quick = performance.now() - begun < 2000;
told.hits = document.getElementById("hits").textContent;
document.querySelector(".row").click(); told.detail = document.querySelector("#detail h3").textContent;
search.value = ""; search.dispatchEvent(new Event("input"));
for (const tab of ["sequence", "map", "operations", "waterfall"]) document.querySelector(`[data-tab=${tab}]`).click();
told.arrows = count("#sequence svg line"); told.circles = count("#map circle"); told.operations = count("#operations tbody tr");
told.marks = count("#operations .mark");
document.title = "told " + JSON.stringify(told);
</script></body>"""


def test_it_is_drawn_and_searched(tmp_path):
    make = Maker()
    root = make.span("", 0, 5000, "server", service="gateway", name="<b>POST</b> /servers")
    for number in range(1666):
        inner = make.call(root, 3 * number, 2, "GET /v2.0/ports", path=f"/v2.0/ports/{number % 100}", at="lyon" if number % 2 else "paris")
        make.span(
            inner,
            3 * number + 0.5,
            1,
            "client",
            "SELECT ports",
            "neutron",
            "paris",
            **{"db.system.name": "sqlite", "db.namespace": "neutron.db"},
        )
    make.span(root, 10, 1, name="needle", error="KeyError: <img src=x onerror=alert(1)>")
    assert len(make.spans) == 5000
    file = tmp_path / "trace.html"
    file.write_text(page.render(make.trace).replace("</body>", SCRIPT), encoding="utf-8")
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run(
            [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", "--window-size=1400,900",
             "--enable-logging=stderr", "--log-level=0", "--virtual-time-budget=5000", "--dump-dom", file.as_uri()],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    said = re.search(r"<title>told (.*?)</title>", done.stdout)
    assert said is not None, done.stderr[-2000:]
    told = __import__("json").loads(unescape(said[1]))
    assert 'data-drawn="yes"' in done.stdout
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    assert 20 < told["rows"] < 200, "only the rows that are seen are in the document"
    assert told["height"] == f"{22 * 3334}px", "of all that are not statements"
    assert told["hits"] == "1 found"
    assert told["detail"] == "needle"
    assert told["quick"]
    assert told["arrows"] > 1000
    assert told["circles"] >= 3
    assert told["operations"] == 3
    assert told["marks"] > 3
    assert Path(file).stat().st_size < 5_000_000
