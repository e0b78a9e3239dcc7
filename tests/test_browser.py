"""The pages opened in headless Chromium: charts are drawn, nothing complains, no request leaves the file."""

import os
import runpy
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from detbalance import recipes, report
from detbalance.interplay import MEASURES, Scene, play

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
OWN = ("file:", "data:", "blob:")
MADE_UP = runpy.run_path(str(Path(__file__).parent / "report" / "conftest.py"))

playwright = pytest.importorskip("playwright.sync_api", reason="needs the playwright package")
pytestmark = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"needs Chromium (looked for {CHROMIUM})")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Both kinds of page as files."""
    folder = tmp_path_factory.mktemp("pages")
    diagnosis = MADE_UP["fake_diagnosis"](folder)
    return {
        "comparison": report.save(report.comparison_page(MADE_UP["fake_results"]()), folder / "comparison.html"),
        "diagnosis": report.save(report.diagnosis_page(diagnosis), folder / "diagnosis.html"),
        "run": report.save(report.comparison_page(MADE_UP["fake_results"](), diagnosis), folder / "run.html"),
        "interplay": report.save(interplay_page(), folder / "interplay.html"),
    }


def interplay_page():
    """Two recipes over three places."""
    plays = [play(recipes.get(name, "dense"), shifts=(-0.3, 0.0, 0.7), scales=(1.0,)) for name in ("baseline", "pisa")]
    return report.interplay_page(plays, Scene(), MEASURES)


@pytest.fixture(scope="module")
def windows(browser, pages):
    """Each page, opened once and drawn, and what the browser complained of."""
    opened, complaints = {}, []

    def window(name):
        if name in opened:
            return opened[name]
        scheme = "light" if name == "run" else "dark"
        page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
        page.set_default_timeout(240_000)
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda r: None if r.url.startswith(OWN) else complaints.append(r.url))
        page.goto(pages[name].as_uri(), wait_until="commit")
        page.wait_for_selector("html[data-ready]")
        opened[name] = page
        return page

    return window, complaints


@pytest.fixture
def opened(windows):
    """Open a page. What the browser complains of is an error of the test."""
    window, complaints = windows
    yield window
    assert complaints == []


def test_every_chart_that_is_shown_is_drawn(opened):
    page = opened("comparison")
    drawn = page.locator(".js-plotly-plot:visible")
    assert drawn.count() == page.locator(".plot:visible").count() == 6
    assert page.locator(".plot:visible .main-svg").count() >= 6
    button = page.locator("#errors").get_by_role("button", name="each recipe")
    button.click()
    page.wait_for_selector("#errors .choice:not([hidden]) .js-plotly-plot")
    assert button.get_attribute("aria-pressed") == "true"
    assert page.locator("#errors .js-plotly-plot:visible").count() == 1


def test_charts_of_a_diagnosis_are_drawn_and_folded_ones_when_they_open(opened):
    page = opened("diagnosis")
    assert page.locator(".js-plotly-plot").count() == page.locator(".plot").count() == 5
    page.locator("details.numbers summary").first.click()
    assert page.locator("details.numbers table").first.is_visible()


def test_a_hostile_class_name_stays_text_everywhere(opened):
    page = opened("run")
    hostile = MADE_UP["HOSTILE"]
    assert page.locator("#problem-foreground-foreground .chips b", has_text=hostile).count() == 1
    labels = page.locator("#problem-foreground-foreground .ytick text").all_text_contents()
    assert hostile in labels
    marks = page.locator(".viewer .box.wrong").first
    assert marks.get_attribute("title") == f"{hostile} 0.62"
    assert page.evaluate("document.scripts.length") == 3 + page.locator("script[type='application/json']").count()


def test_dark_follows_the_system_and_the_button(opened):
    page = opened("comparison")
    ground = "getComputedStyle(document.body).backgroundColor"
    ink = "document.querySelector('.js-plotly-plot .xtick text').style.fill"
    dark = page.evaluate(ground), page.evaluate(ink)
    toggle = page.get_by_role("button", name="Dark")
    assert toggle.get_attribute("aria-pressed") == "true"
    toggle.click()
    page.wait_for_function(f"{ground} !== '{dark[0]}'")
    light = page.evaluate(ground), page.evaluate(ink)
    assert toggle.get_attribute("aria-pressed") == "false"

    def brightness(colour):
        return sum(int(part) for part in colour.strip("rgb()").split(",")[:3])

    assert brightness(dark[0]) < 100 < 600 < brightness(light[0])
    assert brightness(dark[1]) > brightness(light[1])


def test_the_viewer_answers_to_recipe_and_score(opened):
    page = opened("comparison")
    counts = page.locator(".viewer .counts").first
    page.locator(".viewer input[type=range]").fill("0.05")
    assert counts.text_content() == "8 found, 1 false alarm, 1 missed"
    page.locator(".viewer input[type=range]").fill("0.95")
    assert page.locator(".viewer .box.wrong").count() == 0
    before = [b.get_attribute("title") for b in page.locator(".viewer .box.found").all()]
    page.locator(".viewer .choices label", has_text="libra").click()
    assert [b.get_attribute("title") for b in page.locator(".viewer .box.found").all()] != before


def test_the_keyboard_reaches_what_a_mouse_does(opened):
    page = opened("comparison")
    assert page.locator("a[href], button, input, summary").first.get_attribute("class") == "skip"
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.locator("#classes .choices button").nth(1).focus()
    page.keyboard.press("Enter")
    assert page.locator("#classes .choices button").nth(1).get_attribute("aria-pressed") == "true"


def test_nothing_is_wider_than_a_telephone(opened):
    page = opened("run")
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    plots = page.locator(".js-plotly-plot:visible .main-svg").all()
    assert all(plot.bounding_box()["width"] <= 390 for plot in plots)
    page.set_viewport_size({"width": 1280, "height": 900})


def test_printing_is_light_fits_the_sheet_and_leaves_no_trace(opened):
    page = opened("diagnosis")
    width = page.locator(".plot").first.evaluate("e => e.clientWidth")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    assert max(b.bounding_box()["width"] for b in page.locator(".plot:visible .main-svg").all()) <= 640
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.documentElement.dataset.theme ?? ''") == ""
    assert page.locator(".plot .main-svg").first.bounding_box()["width"] == pytest.approx(width, abs=1)
    assert page.pdf(format="A4", print_background=True).startswith(b"%PDF")


def test_without_scripts_every_number_is_still_there(browser, pages):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_default_timeout(240_000)
    page.goto(pages["comparison"].as_uri())
    assert page.locator("noscript").count() == 1
    assert page.locator(".results tbody tr").count() == 3
    page.locator("#classes details.numbers summary").first.click()
    assert page.locator("#classes details.numbers table").first.is_visible()
    context.close()


def test_landmarks_headings_and_names(opened):
    page = opened("run")
    for role in ("banner", "main", "navigation", "contentinfo"):
        assert page.get_by_role(role).count() == 1
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    unnamed = "[...document.querySelectorAll('button, summary, input, img, [role]')].filter(e => !(e.textContent.trim()"
    unnamed += " || e.ariaLabel || e.alt || e.labels?.length || e.closest('label, .modebar'))).length"
    assert page.evaluate(unnamed) == 0
    assert page.evaluate("[...document.querySelectorAll('table')].every(t => t.caption)")


def test_the_candidate_slides_and_everything_answers(opened):
    page = opened("interplay")
    share = page.locator("tr[data-measure='class share'] td b")
    assert page.locator(".scene .moving").get_attribute("class") == "moving positive"
    before = share.all_text_contents()
    assert float(before[1]) > float(before[0]) > 0  # a prime sample
    line = "document.querySelector('#slide .plot').layout.shapes[0].x0"
    page.locator("#shift").fill("2")
    page.wait_for_function(f"{line} === 0.7")
    assert page.locator(".scene .moving").get_attribute("class") == "moving negative"
    assert share.all_text_contents() != before
    assert page.locator("tr[data-measure='box share'] td b").all_text_contents() == ["0.000", "0.000"]
    page.locator("#measure").select_option("box loss")
    page.wait_for_function("document.querySelector('#slide .plot').layout.yaxis.title.text.includes('box loss')")
