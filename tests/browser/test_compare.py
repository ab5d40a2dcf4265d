"""The comparison page, as it is committed and as a run makes it: on a phone and on a desktop."""

from pathlib import Path

import pytest

from heartwire.compare.page import page as compare_page
from heartwire.compare.plan import Plan
from tests.browser.cdp import Chromium
from tests.unit.compare.reports import made_report

DOCS = Path(__file__).parents[2] / "docs"

OVERFLOWING = """[...document.querySelectorAll("body *")]
  .filter(one => one.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .filter(one => !one.closest(".scroll, pre, .narrow, .wide"))
  .map(one => `${one.tagName}.${one.className}: ${one.textContent.slice(0, 40)}`)"""

OUTSIDE = """[...document.querySelectorAll("svg.plot text")]
  .filter(one => { const image = one.ownerSVGElement.getBoundingClientRect(), box = one.getBoundingClientRect();
    return box.width && (box.left < image.left - 1 || box.right > image.right + 1 || box.bottom > image.bottom + 1); })
  .map(one => one.textContent)"""

COLLIDING = """[...document.querySelectorAll("svg.plot")].flatMap(image => {
  const texts = [...image.querySelectorAll("text")];
  const boxes = texts.map(one => [one.textContent, one.getBoundingClientRect()]).filter(([, box]) => box.width);
  return boxes.flatMap(([text, a], index) => boxes.slice(index + 1)
    .filter(([, b]) => a.left < b.right && b.left < a.right && a.top + 3 < b.bottom && b.top + 3 < a.bottom)
    .map(([other]) => `${text} | ${other}`));
})"""


@pytest.mark.slow
def test_page_fits_phones_and_desktops(chromium: Chromium, tmp_path: Path) -> None:
    made = tmp_path / "page.html"
    made.write_text(compare_page(made_report()))
    tls = tmp_path / "tls.html"
    tls.write_text(compare_page(made_report(Plan("https://example.org"), has_cpu=False)))
    with chromium.page() as page:
        for file in (DOCS / "compare.html", made, tls):
            for width in (320, 390, 1280):
                page.resize(width, 900)
                page.goto(file.as_uri())
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (file.name, width)
                assert page.evaluate(OVERFLOWING) == [], (file.name, width)
                assert page.evaluate(OUTSIDE) == [], (file.name, width)
                assert page.evaluate(COLLIDING) == [], (file.name, width)
                assert (
                    page.evaluate(
                        "[...document.querySelectorAll('svg.plot')].filter(one => one.clientWidth).length"
                    )
                    >= 4
                )
                assert page.evaluate("performance.getEntriesByType('resource').length") == 0
        assert page.complaints == []
