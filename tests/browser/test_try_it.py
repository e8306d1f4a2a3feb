"""The documentation's page that segments photos in the browser, in a real Chromium.

It needs the site that `make docs` builds. Where something is missing these tests are skipped, but
they fail where the environment variable CI is set.
"""

import importlib.util
import os
import re
import shutil
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

import deeplab_fashion as df

ROOT = Path(__file__).resolve().parents[2]
SITE = Path(os.environ.get("DEEPLAB_FASHION_SITE", ROOT / "build" / "html"))
CHROMIUM = next(
    filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), ""
)
READY = "#try-it-file:enabled, #try-it-problem:not([hidden])"
DONE = "#try-it-result:not([hidden]), #try-it-problem:not([hidden])"
TIMES = "\N{MULTIPLICATION SIGN}"
AGREEMENT = 0.9999  # share of pixels
ISOLATING = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}  # fmt: skip


def need(met, reason):
    if not met:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@pytest.fixture(scope="module")
def chromium():
    need((SITE / "try_it.html").is_file(), "needs the documentation: run `make docs` first")
    for source in (ROOT / "docs" / "_static" / "try_it").iterdir():
        built = SITE / "_static" / "try_it" / source.name
        need(
            built.read_bytes() == source.read_bytes(),
            f"the site's {source.name} is older than its source: run `make docs` again",
        )
    need(CHROMIUM, "needs Chromium: apt-get install chromium")
    need(importlib.util.find_spec("playwright"), "needs playwright: requirements/test.txt")
    from playwright.sync_api import sync_playwright

    options = [
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


class Server(ThreadingHTTPServer):
    """Serves the site but for what is ``absent``, and keeps what it was ``asked`` for."""

    def __init__(self, headers):
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=SITE))
        self.headers, self.asked, self.absent = headers, [], set()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """A browser that leaves a page hangs up in the middle of an answer."""


class Handler(SimpleHTTPRequestHandler):
    def parse_request(self):
        understood = super().parse_request()
        if understood:
            body = int(self.headers.get("Content-Length", 0))
            self.server.asked.append((self.command, self.path, body))
        return understood

    def end_headers(self):
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        super().end_headers()

    def do_GET(self):
        if Path(self.path).name in self.server.absent:
            self.send_error(404)
        else:
            super().do_GET()

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


@dataclass
class Visit:
    page: object
    server: Server

    def choose(self, photo):
        self.page.set_input_files("#try-it-file", photo)
        return self.answer()

    def answer(self):
        """The problem that the page tells, or None."""
        self.page.locator(DONE).first.wait_for(timeout=180_000)
        problem = self.page.locator("#try-it-problem")
        return problem.inner_text() if problem.is_visible() else None

    def labels(self, name):
        """The labels and palette of the picture that the page lets one save."""
        with self.page.expect_download() as download:
            self.page.get_by_role("link", name="Save the masks").click()
        assert download.value.suggested_filename == name
        with Image.open(download.value.path()) as saved:
            assert saved.mode == "P"
            return np.asarray(saved), np.reshape(saved.getpalette(), (-1, 3))

    def legend(self):
        rows = self.page.locator("#try-it-classes tr").all()
        return {row.locator("th").inner_text(): row.locator("td").inner_text() for row in rows}


@pytest.fixture
def visit(chromium):
    """Opens the page; afterwards no request may have left its origin or carried anything."""
    opened = []

    def open_page(*, headers=None, script=None, **options):
        server = Server(headers or {})
        Thread(target=server.serve_forever, daemon=True).start()
        context = chromium.new_context(**options)
        page = context.new_page()
        if script:
            page.add_init_script(script)
        requests, faults = [], []
        page.on("request", lambda request: requests.append(request))
        page.on("pageerror", lambda fault: faults.append(fault))
        opened.append((server, context, requests, faults))
        page.goto(f"{server.url}/try_it.html")
        page.locator(READY).first.wait_for(state="attached")
        return Visit(page, server)

    yield open_page
    for server, context, requests, faults in opened:
        context.close()
        server.shutdown()
        server.server_close()
        assert faults == []
        assert server.asked
        for request in requests:
            assert request.url.startswith((f"{server.url}/", "blob:", "data:"))
            assert request.post_data_buffer is None
        for method, path, body in server.asked:
            assert (method, body) == ("GET", 0)
            address = urlsplit(path)
            assert re.fullmatch(r"(v=[0-9a-f]{8})?", address.query)  # Sphinx's own
            assert (SITE / address.path[1:]).is_file() or address.path == "/favicon.ico"


@pytest.fixture(scope="module")
def segmenter():
    return df.Segmenter.from_pretrained("fashion-main")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photos of many kinds: as packaged, turned by EXIF, wide, translucent, grey, tiny, thin."""
    folder = tmp_path_factory.mktemp("photos")
    with Image.open(df.samples.photo(2)) as image:
        image.load()
    turned = image.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    turned.save(folder / "turned.jpg", exif=exif, quality=95)
    wide = Image.new("RGB", (1501, 823), "grey")
    wide.paste(image, (400, 0))
    wide.save(folder / "wide.png")
    translucent = image.resize((140, 210))
    translucent.putalpha(Image.linear_gradient("L").resize(translucent.size))
    translucent.save(folder / "translucent.png")
    image.convert("L").save(folder / "grey.jpg")
    image.resize((16, 16)).save(folder / "tiny.png")
    image.resize((500, 3)).save(folder / "thin.webp", lossless=True)
    shutil.copy(df.samples.photo(2), folder / "sample.jpg")
    return folder


def test_the_browser_finds_what_segmenter_finds(visit, photos, segmenter):
    page = visit()
    colours = df.plotting.palette(len(segmenter.class_names)).tolist()
    for photo in sorted(photos.iterdir()):
        assert page.choose(photo) is None
        expected = segmenter(photo)
        labels, palette = page.labels(f"{photo.stem}_labels.png")
        assert labels.shape == expected.labels.shape
        agreement = (labels == expected.labels).mean()
        assert agreement >= AGREEMENT, f"{photo.name}: {agreement:.5f}"
        np.testing.assert_array_equal(palette, colours)
        assert list(page.legend()) == list(segmenter.class_names)
        for name, share in page.legend().items():
            assert float(share.removesuffix(" %")) == pytest.approx(
                100 * expected.shares[name], abs=0.1
            )
        height, width = labels.shape
        status = page.page.get_by_role("status").inner_text()
        assert status.startswith(f"{width} {TIMES} {height} ")
    swatches = page.page.locator(".try-it-swatch").all()
    shown = [each.evaluate("each => getComputedStyle(each).backgroundColor") for each in swatches]
    assert shown == [f"rgb({red}, {green}, {blue})" for red, green, blue in colours]


def test_a_dropped_photo_is_segmented_even_offline(visit, photos, segmenter):
    page = visit()
    assert page.choose(photos / "tiny.png") is None  # the network is here now
    page.page.context.set_offline(True)
    asked = len(page.server.asked)
    # A drag as from a folder, sent to the browser itself; the page sees what any page would.
    session = page.page.context.new_cdp_session(page.page)
    zone = page.page.locator("#try-it-zone")
    zone.scroll_into_view_if_needed()
    box = zone.bounding_box()
    for step in ("dragEnter", "dragOver", "drop"):
        session.send(
            "Input.dispatchDragEvent",
            {
                "type": step,
                "x": box["x"] + box["width"] / 2,
                "y": box["y"] + box["height"] / 2,
                "data": {
                    "items": [],
                    "files": [str(photos / "turned.jpg")],
                    "dragOperationsMask": 1,
                },
            },
        )
    page.page.locator("#try-it-result").wait_for(state="hidden")
    assert page.answer() is None
    labels, _ = page.labels("turned_labels.png")
    assert (labels == segmenter(photos / "turned.jpg").labels).mean() >= AGREEMENT
    assert len(page.server.asked) == asked


def test_a_file_that_is_no_photo_is_named_and_the_next_one_segmented(visit, photos, tmp_path):
    page = visit()
    (tmp_path / "notes.txt").write_text("no photo")
    (tmp_path / "damaged.jpg").write_bytes((photos / "sample.jpg").read_bytes()[:100])
    for name, kind, size in [("notes.txt", "text/plain", 8), ("damaged.jpg", "image/jpeg", 100)]:
        assert page.choose(tmp_path / name) == (
            f"{name} ({kind}, {size} bytes) is not a photo that this browser can read. "
            "Choose a JPEG, PNG or WebP file."
        )
        assert page.page.get_by_role("alert").is_visible()
        assert page.page.locator("#try-it-result").is_hidden()
    assert page.choose(photos / "tiny.png") is None


def test_a_network_that_did_not_arrive_is_asked_for_again(visit, photos):
    page = visit()
    page.server.absent.add("fashion-main.onnx.gz")
    assert page.choose(photos / "tiny.png") == (
        "The network could not be loaded. model/fashion-main.onnx.gz: 404 Not Found"
    )
    page.server.absent.clear()
    assert page.choose(photos / "tiny.png") is None


def test_the_keyboard_and_a_screen_reader_suffice(visit):
    page = visit().page
    chooser = page.get_by_label("Choose a photo or drop one on this page.")
    chooser.focus()
    assert page.evaluate("document.activeElement.id") == "try-it-file"
    assert chooser.evaluate("input => input.matches(':focus-visible')")
    page.keyboard.press("Tab")
    sample = page.get_by_role("button", name="Sample photo 1")
    assert sample.evaluate("button => button === document.activeElement")
    page.keyboard.press("Enter")
    page.locator(DONE).first.wait_for(timeout=180_000)
    status = page.get_by_role("status")
    assert re.fullmatch(
        rf"\d+ {TIMES} \d+ pixels in \d+\.\d s, in one thread\.", status.inner_text()
    )
    assert page.get_by_alt_text(re.compile(r"^Masks: .*feet \d+\.\d %")).is_visible()
    page.get_by_label("Opacity of the masks").focus()
    page.keyboard.press("Home")
    assert page.locator("#try-it-tint").evaluate("tint => tint.style.opacity") == "0"


def test_an_isolated_page_computes_in_several_threads(visit, photos, segmenter):
    page = visit(headers=ISOLATING)
    assert page.choose(photos / "sample.jpg") is None
    labels, _ = page.labels("sample_labels.png")
    assert (labels == segmenter(photos / "sample.jpg").labels).mean() >= AGREEMENT
    threads = min(4, page.page.evaluate("navigator.hardwareConcurrency"))
    expected = "one thread" if threads == 1 else f"{threads} threads"
    assert page.page.get_by_role("status").inner_text().endswith(f"in {expected}.")


SEND = """
url => fetch(url, {method: "POST", mode: "no-cors", body: "photo"}).then(() => true, () => false)
"""


def test_the_browser_lets_nothing_out_of_the_page(visit, photos, chromium):
    page = visit()
    assert page.choose(photos / "tiny.png") is None
    (worker,) = page.page.workers
    outside = Server({})
    Thread(target=outside.serve_forever, daemon=True).start()
    try:
        assert not page.page.evaluate(SEND, outside.url)
        assert not worker.evaluate(SEND, outside.url)
        assert outside.asked == []
        # Another page of the site has no such policy: what is tried above can succeed.
        with chromium.new_page() as other:
            other.goto(f"{page.server.url}/index.html")
            assert other.evaluate(SEND, outside.url)
        assert outside.asked == [("POST", "/", 5)]
    finally:
        outside.shutdown()
        outside.server_close()


@pytest.mark.parametrize("name", ["WebAssembly", "OffscreenCanvas"])
def test_a_browser_that_lacks_something_is_told_what(visit, name):
    page = visit(script=f"delete globalThis.{name}")
    assert page.answer() == (
        f"This browser lacks {name}, which the page needs. Try a current browser."
    )
    assert page.page.locator("#try-it-file").is_disabled()


def luminance(colour):
    channels = np.array([int(each) for each in re.findall(r"\d+", colour)[:3]]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_readable(visit, scheme, width):
    page = visit(color_scheme=scheme, viewport={"width": width, "height": 844}).page
    page.get_by_role("button", name="Sample photo 1").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    background = page.locator("body").evaluate("body => getComputedStyle(body).backgroundColor")
    assert (luminance(background) > 0.5) == (scheme == "light")
    zone = page.locator("#try-it-zone").evaluate("zone => getComputedStyle(zone).backgroundColor")
    for place in ("", " strong", " small"):
        ink = page.locator(f"#try-it-zone{place}").evaluate("each => getComputedStyle(each).color")
        dark, light = sorted((luminance(ink), luminance(zone)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, place  # WCAG 2, level AA
