"""The documentation site: it builds without a warning, from this copy alone, and loads nothing from elsewhere."""

import functools
import html.parser
import http.server
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest

from helpers.paths import ROOT
from keras_resv2.analysis import delete_each, grad_cam
from keras_resv2.analysis.dissection import dissect
from keras_resv2.data.images import read_image
from keras_resv2.pretrained import from_pretrained, list_pretrained, pretrained_card

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
    assert "unit of a stage that has the stride" in text and "PreActResNet164" in text
    page = (site / "api/networks.html").read_text()
    assert 'class="language-pycon' in page or "gp" in page, "examples are not code"
    assert "<blockquote" not in page, "an example was taken for a quotation"


def script(name):
    """A module of docs/_site, which is no package."""
    spec = importlib.util.spec_from_file_location(f"site_{name}", ROOT / f"docs/_site/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_figure_of_units_is_that_of_the_table():
    units = script("units")
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


def test_notebooks_were_run(site, real_images):
    """Their outputs and figures are on the pages and in the .ipynb files."""
    images, labels = real_images
    scores = from_pretrained("preact_resnet20-cifar10").predict(images, verbose=0)
    expected = {
        "quick_start": f"{(scores.argmax(1) == labels).sum()} of 20 right",
        "lesions_and_paths": "of 54 units can be deleted",
        "convert_and_export": "resnet20 10 classes, layout cifar",
        "fine_tune": "of 200 images",
    }
    for name, output in expected.items():
        assert output in " ".join(" ".join(read(site / f"notebooks/{name}.html").text).split())
        assert (site / f"notebooks/{name}-1.png").read_bytes().startswith(b"\x89PNG")
        notebook = json.loads((site / f"notebooks/{name}.ipynb").read_text())
        assert notebook["nbformat"] == 4 and notebook["cells"][0]["source"].startswith("# ")
        outputs = [one for cell in notebook["cells"] for one in cell.get("outputs", [])]
        assert any(output in one.get("text", "") for one in outputs)
        assert any("image/png" in one.get("data", {}) for one in outputs)


def test_cells_of_a_notebook():
    notebooks = script("notebooks")
    text = "# %% [markdown]\n# # Title\n#\n# Text\n# %%\nx = 2\nprint(x)\nx + 1\n"
    found = notebooks.cells(text)
    assert found == [("markdown", "# Title\n\nText"), ("code", "x = 2\nprint(x)\nx + 1")]
    namespace = {}
    assert notebooks.run(found[1][1], namespace) == ("2\n3", []) and namespace["x"] == 2
    assert notebooks.run("x + 1", namespace) == ("3", [])
    with pytest.raises(ZeroDivisionError):
        notebooks.run("1 / 0", namespace)


# The page "The network in the browser".

# In the page: what the network answers as it is, without each unit, with two units swapped; and its Grad-CAM.
RUN = """
const [address, studied, done] = arguments, files = new URL("network/", location.href).href;
(async () => {
  const { Network } = await import(new URL("javascripts/network/engine.js", location.href));
  const { pixelsOf } = await import(new URL("javascripts/network/images.js", location.href));
  const { images } = await (await fetch(files + "networks.json")).json();
  const pixels = [];
  for (const { file } of images) pixels.push(...(await pixelsOf(await (await fetch(files + file)).blob())));
  const x = tf.tensor(pixels, [images.length, 32, 32, 3]);
  const network = new Network(tf, new Uint8Array(await (await fetch(files + address)).arrayBuffer()));
  const { probabilities, maps } = await network.run(x), without = [];
  if (!studied) return done({ probabilities: [...probabilities] });
  for await (const [unit, found] of network.deletions(x)) without.push([unit, [...found]]);
  const swapped = await network.run(x, { order: [0, 2, 1, 3, 4, 5, 6, 7, 8], off: new Set([5]) });
  done({ probabilities: [...probabilities], without, swapped: [...swapped.probabilities],
    cam: [...(await network.cam(maps, 3).data())] });
})().catch((error) => done({ error: error.stack }));
"""


@pytest.fixture
def network_page(site, server, browser):
    """The page, once it has computed everything that it shows at first."""
    if not json.loads((site / "network/networks.json").read_text())["runtime"]:
        pytest.skip("the site was built without npm, which fetches the page's runtime: apt install npm")
    if not importlib.util.find_spec("foolbox"):
        pytest.skip("the sample images are missing: pip install --no-deps foolbox")
    browser.set_script_timeout(120)
    browser.get(f"{server}/network.html")
    wait(browser, "return rn.dataset.studied")
    return browser


def wait(browser, script):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 90, 0.1).until(lambda _: browser.execute_script(script))


@pytest.fixture(scope="module")
def samples():
    found = script("network").sample_images()
    return np.stack([read_image(path, (32, 32)) for path, _ in found]), np.array([label for _, label in found])


@pytest.mark.parametrize("name", ["preact_resnet20-cifar10", "resnet20-cifar10", "plain"])
def test_networks_in_the_browser_answer_as_keras(name, site, network_page, samples):
    index = json.loads((site / "network/networks.json").read_text())
    entry = index["plain"] if name == "plain" else next(n for n in index["networks"] if n["name"].startswith(name))
    model = from_pretrained(script("network").PLAIN if name == "plain" else entry["name"])
    found = network_page.execute_async_script(RUN, entry["file"], True)
    assert "error" not in found, found["error"]
    images, labels = samples

    def rows(values):
        return np.reshape(values, (len(labels), 10))

    np.testing.assert_allclose(rows(found["probabilities"]), model.predict(images, verbose=0), atol=1e-4)

    study = delete_each(model, images, labels)
    errors = {study.units[unit]: 100 * np.mean(rows(y).argmax(1) != labels) for unit, y in found["without"]}
    expected = {unit: error for unit, error in zip(study.units, study.errors, strict=True) if not np.isnan(error)}
    assert errors == pytest.approx(expected) and max(errors.values()) > 50
    assert len(errors) == (7 if name == "plain" else 9)

    parts = dissect(model)
    y = parts.stem(keras.ops.cast(images, "uint8"))
    for place, unit in enumerate(parts.units[i] for i in (0, 2, 1, 3, 4, 5, 6, 7, 8)):
        y = unit.without_branch(y) if place == 5 else unit(y)
    swapped = keras.ops.convert_to_numpy(keras.ops.softmax(parts.head(y)))
    np.testing.assert_allclose(rows(found["swapped"]), swapped, atol=1e-4)
    maps = grad_cam(model, images, classes=3).maps
    np.testing.assert_allclose(np.reshape(found["cam"], maps.shape), maps, atol=1e-3 * maps.max())


def test_bottlenecks_in_the_browser_answer_as_keras(site, network_page, samples):
    networks = json.loads((site / "network/networks.json").read_text())["networks"]
    entry = next(n for n in networks if n["name"].startswith("preact_resnet164-cifar10"))
    found = network_page.execute_async_script(RUN, entry["file"], False)
    assert "error" not in found, found["error"]
    expected = from_pretrained(entry["name"]).predict(samples[0], verbose=0)
    np.testing.assert_allclose(np.reshape(found["probabilities"], expected.shape), expected, atol=1e-4)


def test_switches_of_the_page(network_page, samples):
    """By mouse and by keyboard: scores, paths and the row of units follow; the first network has 9 units."""
    keys = pytest.importorskip("selenium.webdriver").Keys

    def unit(name):
        return network_page.find_element("css selector", f"[data-unit={name}]")

    def shown():
        return [int(b.text) for b in network_page.find_elements("css selector", ".rn-score b") if b.is_displayed()]

    def done(act):
        before = network_page.execute_script("return rn.dataset.done")
        act()
        wait(network_page, f"return rn.dataset.done !== '{before}'")

    study = delete_each(from_pretrained("preact_resnet20-cifar10"), *samples)
    right = [round(20 * (1 - error / 100)) for error in (study.intact_error, study.errors[3], study.errors[4])]
    assert shown()[0] == right[0]
    done(unit("stage2_unit1").click)
    assert shown()[0] == right[1] < right[0]
    assert unit("stage2_unit1").get_attribute("aria-checked") == "false"
    assert "256 of 512 paths" in network_page.find_element("css selector", ".rn-summary").text
    done(lambda: unit("stage2_unit1").send_keys(keys.SPACE))
    unit("stage2_unit1").send_keys(keys.ARROW_RIGHT)
    focused = network_page.switch_to.active_element
    assert focused.get_attribute("data-unit") == "stage2_unit2"
    done(lambda: focused.send_keys(keys.ENTER))
    assert shown()[0] == right[2]
    network_page.find_element("xpath", "//button[.='Swap units']").click()
    assert not unit("stage2_unit1").is_enabled(), "it changes the size"
    unit("stage3_unit2").click()
    done(unit("stage3_unit3").click)
    row = [b.get_attribute("data-unit") for b in network_page.find_elements("css selector", ".rn-row [data-unit]")]
    assert row[6:9] == ["stage3_unit1", "stage3_unit3", "stage3_unit2"]
    assert "0.94" in network_page.find_element("css selector", ".rn-summary").text  # 1 - 4/72: one pair of 36


# In the page: a file of these bytes is dropped on the part, or pasted.
GIVE = """
const [how, bytes, name, type] = arguments, data = new DataTransfer();
data.items.add(new File([Uint8Array.from(bytes)], name, { type }));
const options = { bubbles: true, cancelable: true };
if (how === "drop") document.querySelector(".rn-drop").dispatchEvent(
    new DragEvent("drop", { ...options, dataTransfer: data }));
else document.body.dispatchEvent(new ClipboardEvent("paste", { ...options, clipboardData: data }));
"""


def test_an_image_of_ones_own(network_page, tmp_path):
    """Sample images within larger ones: chosen, dropped and pasted; and files that are not images."""
    from PIL import Image

    def wide(label):
        path = next(path for path, of in script("network").sample_images() if of == label)
        image = Image.new("RGB", (256, 128))
        image.paste(Image.open(path).resize((128, 128)), (64, 0))
        image.save(tmp_path / f"{label}.png")
        return tmp_path / f"{label}.png"

    def give(how, path, kind="image/png"):
        network_page.execute_script(GIVE, how, list(path.read_bytes()), path.name, kind)

    def refuses(name):
        status = "document.querySelector('.rn-status').textContent"
        wait(network_page, f"return {status}.includes('{name} is not an image')")

    first = "return document.querySelector('.rn-class').textContent"
    text = tmp_path / "text.png"
    text.write_text("no image")
    file = network_page.find_element("id", "rn-file")
    assert "cat" in network_page.execute_script(first)
    file.send_keys(str(wide(6)))
    wait(network_page, f"{first} === 'frog'")
    assert network_page.execute_script("return !document.querySelector('.rn-thumbs [aria-checked=true]')")
    file.send_keys(str(text))
    refuses("text.png")
    give("drop", wide(8))
    wait(network_page, f"{first} === 'ship'")
    give("paste", wide(1))
    wait(network_page, f"{first} === 'automobile'")
    give("drop", text.rename(tmp_path / "notes.txt"), "text/plain")
    refuses("notes.txt")


def test_the_page_is_small_and_complete(site):
    """A 20-layer network, and the plain one beside it, in less than 3 MB as stored on the server."""
    index = json.loads((site / "network/networks.json").read_text())
    shown = [index["networks"][0]["file"], *([index["plain"]["file"]] if index["plain"] else [])]
    files = [
        site / "network" / name for name in [*shown, "networks.json", *(image["file"] for image in index["images"])]
    ]
    files += [path for path in (site / "network/runtime").glob("*") if path.name != "tfjs-backend-wasm.wasm"]
    files += [*(site / "javascripts/network").iterdir(), site / "network.html", site / "stylesheets/network.css"]
    assert sum(path.stat().st_size for path in files) < 3e6
    assert len(index["networks"]) == 6


def test_a_site_without_npm_says_so(tmp_path, monkeypatch, capsys):
    network = script("network")
    monkeypatch.setattr(network, "CACHE", tmp_path)
    monkeypatch.setattr(network, "_npm", lambda: None)
    assert network.fetch_runtime() == {}
    assert "install npm" in capsys.readouterr().err


def test_a_narrow_window_in_dark_mode(network_page):
    network_page.set_window_size(500, 900)
    network_page.execute_script("document.body.setAttribute('data-md-color-scheme', 'slate')")
    assert network_page.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    unlabelled = """return [...rn.querySelectorAll("button, input, canvas, svg")].filter(
        (part) => !(part.ariaLabel || part.textContent.trim() || part.labels?.length)).length"""
    assert network_page.execute_script(unlabelled) == 0
