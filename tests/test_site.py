"""The documentation site: it builds without a warning, from this copy alone, and loads nothing from elsewhere."""

import functools
import html.parser
import http.server
import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading

import pytest

from keras_resv2.pretrained import list_pretrained, pretrained_card

ROOT = pathlib.Path(__file__).resolve().parents[1]
LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

if not importlib.util.find_spec("mkdocs_gen_files"):
    pytest.skip("MkDocs is missing: pip install 'keras-resv2[docs]'", allow_module_level=True)


class Loaded(html.parser.HTMLParser):
    """Addresses of what a page loads, and the text of its article."""

    def __init__(self):
        super().__init__()
        self.addresses, self.text = [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "link" and attributes.get("rel") in ("canonical", "prev", "next", "alternate"):
            return
        if tag in LOADED and attributes.get(LOADED[tag]):
            self.addresses.append(attributes[LOADED[tag]])

    def handle_data(self, data):
        self.text.append(data)


def read(page):
    parser = Loaded()
    parser.feed(page.read_text())
    return parser


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Built with warnings as errors: broken links, missing anchors and references."""
    folder = tmp_path_factory.mktemp("site")
    quiet = {"NO_MKDOCS_2_WARNING": "1", "DISABLE_MKDOCS_2_WARNING": "true"}
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, **quiet},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_nothing_is_loaded_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        for address in read(page).addresses:
            assert not re.match(r"(https?:)?//", address), f"{page.name} loads {address}"
            if not address.startswith(("data:", "/")):  # 404.html names files from the root
                assert (page.parent / address.split("?")[0].split("#")[0]).exists(), f"{page.name}: {address}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?https?:", sheet.read_text()), sheet.name


def test_every_published_network_has_a_row_and_a_page(site):
    zoo = " ".join(read(site / "zoo.html").text)
    cards = [card for card in map(pretrained_card, list_pretrained(versions=True)) if card.origin is None]
    assert len(cards) >= 5
    for card in cards:
        assert card.full_name in zoo and f"{card.test_error:.2f}" in zoo
        page = " ".join(read(site / f"zoo/{card.name}-{card.version}.html").text)
        assert card.sha256 in page and f"{card.test_error:.2f} %" in page


def test_the_reference_has_arguments_and_examples(site):
    text = " ".join(" ".join(read(site / "api/networks.html").text).split())
    assert "halves the" in text and "PreActResNet164" in text
    page = (site / "api/networks.html").read_text()
    assert 'class="language-pycon' in page or "gp" in page, "examples are not code"
    assert "<blockquote" not in page, "an example was taken for a quotation"


def test_the_figure_of_units_is_that_of_the_table():
    spec = importlib.util.spec_from_file_location("units_figure", ROOT / "docs/_site/units.py")
    units = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(units)
    assert units.steps_of("full_preactivation") == ["bn", "relu", "conv", "bn", "relu", "conv", "add"]  # Fig. 4 (e)
    assert units.draw() == (ROOT / "docs/figures/units.svg").read_text(), "run python docs/_site/units.py"


def test_search_finds_functions_and_guides(site):
    documents = json.loads((site / "search/search_index.json").read_text())["docs"]
    found = {document["location"].partition("#")[0] for document in documents if "fine_tune" in document["text"]}
    assert {"transfer.html", "api/transfer.html"} <= found


@pytest.fixture
def server(site):
    handler = functools.partial(QuietHandler, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is missing: pip install 'keras-resv2[docs]'")
    if not (CHROMIUM and DRIVER):
        pytest.skip("Chromium is missing: apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,1000"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.implicitly_wait(20)
    yield driver
    driver.quit()


def test_tables_sort_search_finds_and_narrow_windows_fit(server, browser):
    def errors():
        return [float(cell.text) for cell in browser.find_elements("css selector", ".sortable td:nth-child(3)")]

    browser.get(f"{server}/zoo.html")
    header = browser.find_element("xpath", "//th[@role='button'][starts-with(., 'error')]")
    header.click()
    ascending = errors()
    header.click()
    assert len(ascending) >= 5 and ascending == sorted(ascending) and errors() == ascending[::-1]
    browser.get(f"{server}/index.html?q=delete_each")
    assert browser.find_element("css selector", ".md-search-result__item a[href*='analysis.html']")
    browser.set_window_size(500, 900)
    for page in ("index.html", "zoo.html", "api/networks.html"):
        browser.get(f"{server}/{page}")
        assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth"), page
