"""A page of a report, shown by a real browser without a network."""

import json
import re
import shutil
import subprocess
import tempfile

CHROMIUM = shutil.which("chromium")
LACKING = "needs Debian's chromium: scripts/packages chromium"

_SCRIPT = """<script>
const told = {tables: document.querySelectorAll("table").length, images: 0, wide: document.documentElement.scrollWidth};
for (const image of document.images) if (image.complete && image.naturalWidth > 300) told.images += 1;
document.title = "told " + JSON.stringify(told);
</script></body>"""


def shown(page, directory):
    """Return the numbers of tables and images that a browser shows, and the page's width in pixels; check that its console is empty."""
    # A policy that allows the script of this test, which the page itself has none of
    file = directory / "report.html"
    file.write_text(
        page.replace("</body>", _SCRIPT).replace("default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'"), encoding="utf-8"
    )
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run(
            [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", "--window-size=1280,900",
             "--enable-logging=stderr", "--log-level=0", "--virtual-time-budget=5000", "--dump-dom", file.as_uri()],
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    said = re.search(r"<title>told (.*?)</title>", done.stdout)
    assert said is not None, done.stderr[-2000:]
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    return json.loads(said[1])
