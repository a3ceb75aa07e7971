"""The size of the page: before and after, for documents that are hard on it.

    python benchmarks/page_size.py RUNS STORE [BEFORE]

RUNS: folder of the stored runs; STORE: where the analysed documents are kept; BEFORE: a checkout of an earlier version, whose renders
stand in the first line of each document.  Prints a table in Markdown; needs Chromium and playwright.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from page_documents import documents
from playwright.sync_api import Page, sync_playwright

from gradaudit.report import render_html
from gradaudit.result_schema import ResultDocument

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
NEW_FIELDS = ("pictures", "distributions", "difference_maps", "calibration", "size_curves")
NEW_WORDS = ("fact", "limit", "fact_finding", "questions")
HEADS = (
    "document", "page", "findings end, px", "before the appendix, px", "total, px", "kB without images and ZIP", "ZIP, kB", "nodes",
    "tab stops", "words", "build, s", "open, s",
)  # fmt: skip
MEASURE = """() => {
  const end = id => { const e = document.getElementById(id); return e ? Math.round(e.getBoundingClientRect().bottom + scrollY) : null; };
  const top = id => { const e = document.getElementById(id); return e ? Math.round(e.getBoundingClientRect().top + scrollY) : null; };
  const stops = [...document.querySelectorAll('a[href], summary, input, select, button, [tabindex="0"]')]
    .filter(e => !e.closest('#appendix, #method, #glossary, #limits, #reproduction') && e.checkVisibility() && e.tabIndex >= 0);
  return {
    findings: end('findings') ?? end('heat'), before: top('appendix') ?? top('method'), total: document.documentElement.scrollHeight,
    nodes: document.querySelectorAll('*').length, stops: stops.length,
    words: document.querySelector('main').textContent.split(/\\s+/).length,
  };
}"""


def measured(page: Page, html: str, build: float) -> list[str]:
    """One line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        path.write_text(html, encoding="utf-8")
        started = time.perf_counter()
        page.goto(path.as_uri(), wait_until="load")
        opened = time.perf_counter() - started
        found = page.evaluate(MEASURE)
    packed = re.search(r"data:application/zip;base64,([A-Za-z0-9+/=]+)", html)
    bare = re.sub(r"data:[a-z/+-]+;base64,[A-Za-z0-9+/=]+", "", html)
    sizes = (len(bare.encode()) / 1000, len(packed[1]) * 0.00075 if packed else 0)
    numbers = [
        found["findings"],
        found["before"],
        found["total"],
        *sizes,
        found["nodes"],
        found["stops"],
        found["words"],
    ]
    return [f"{n:,.0f}" if n is not None else "–" for n in numbers] + [
        f"{build:.2f}",
        f"{opened:.2f}",
    ]


def rendered_before(document: ResultDocument, checkout: Path) -> tuple[str, float]:
    """The page of an earlier version, and its time, in a process of its own."""
    data = {k: v for k, v in document.model_dump(mode="json").items() if k not in NEW_FIELDS}
    data["verdict"] = {k: v for k, v in data["verdict"].items() if k not in NEW_WORDS}
    code = (
        "import sys, time; from gradaudit.report import read_result, render_html\n"
        "d = read_result(sys.argv[1]); t = time.perf_counter(); html = render_html(d)\n"
        "print(time.perf_counter() - t); open(sys.argv[2], 'w', encoding='utf-8').write(html)"
    )
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "r.json", Path(folder) / "r.html"
        source.write_text(json.dumps(data), encoding="utf-8")
        run = subprocess.run(
            [sys.executable, "-c", code, str(source), str(target)],
            env=os.environ | {"PYTHONPATH": str(checkout)}, cwd=checkout, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return target.read_text(encoding="utf-8"), float(run.stdout)


def main(runs: Path, store: Path, before: Path | None) -> None:
    print("| " + " | ".join(HEADS) + " |\n|" + "---|" * len(HEADS))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        for name, document in documents(runs, store).items():
            if before is not None:
                print(
                    f"| {name} | before | "
                    + " | ".join(measured(page, *rendered_before(document, before)))
                    + " |",
                    flush=True,
                )
            started = time.perf_counter()
            html = render_html(document)
            build = time.perf_counter() - started
            assert render_html(document) == html
            print(
                f"| {name} | after | " + " | ".join(measured(page, html, build)) + " |", flush=True
            )
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
