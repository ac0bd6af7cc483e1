"""Pictures of every view of the live page, from a real run: ``python -m demo.screenshots --out docs/images``.

Starts Kafka, a predictor, a monitor and a producer that turns some wearers' sensors midway, opens the
page in Debian's Chromium and saves ``page-*.png``. Takes about three minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from demo.services import start
from demo.topics import ask
from repstream.broker.broker import EmbeddedBroker
from repstream.errors import RepstreamError
from repstream.processes.ports import HOST, free_port
from repstream.recordings.catalogue import resolve
from repstream.recordings.tables import write_recording

CHROMIUMS = ("chromium", "google-chrome")
"""Names of the program, as Debian and Google have it."""
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESK = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}

_NAMES = ("spar/s08-*", "spar/s09-*", "spar/s10-*")
_TURNED = "rotate:90@70/spar-s0[89]-*"
_READY_S = 60.0
# Until the turned sensors fill the windows that are compared.
_UNTIL_DRIFT_S = 110.0
_GRACE_S = 15.0


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Run Chromium, as Debian or Google packages it, without a window.

    Raises
    ------
    RepstreamError
        Where it is not installed.
    """
    path = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if path is None:
        raise RepstreamError("there is no chromium on this machine; install it: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


def opened(browser: Browser, address: str, view: str, *, size: dict[str, int] = DESK, scheme: str = "light") -> Page:
    """Open a view of the page at a size, in light or dark, and wait until it says how things stand."""
    page = browser.new_page(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(f"{address}#/{view}")
    page.wait_for_selector('#state[data-tone="good"]', timeout=30_000)
    return page


def save(page: Page, path: Path, *, whole: bool = True) -> None:
    """Save a picture as small as it goes without a loss."""
    page.evaluate("scrollTo(0, 0)")
    picture = Image.open(io.BytesIO(page.screenshot(full_page=whole))).convert("RGB")
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, optimize=True)
    print(f"{path}: {picture.width} x {picture.height}, {path.stat().st_size // 1000} kB", file=sys.stderr)


@contextlib.contextmanager
def _running(folder: Path) -> Iterator[str]:
    """Run all services; yields the page's address."""
    port = free_port()
    with EmbeddedBroker.start() as broker:
        to = ["--bootstrap-servers", broker.bootstrap_servers]
        # Short windows and a pass each second: three minutes then show what otherwise takes a quarter of an hour.
        watch = ["--port", str(port), "--reports", str(folder / "reports"), "--every", "1", "--window", "10"]
        play = ["--loop", "--controllable", "--quiet", "--inject", _TURNED, "--", *_NAMES]
        with (
            start("monitor", [*to, *watch, "--current", "3"], folder / "monitor.log", _GRACE_S),
            start("predict", to, folder / "predict.log", _GRACE_S),
            start("produce", [*to, *play], folder / "produce.log", _GRACE_S),
        ):
            _wait_for(port)
            yield f"http://{HOST}:{port}/"


def _wait_for(port: int) -> None:
    deadline = monotonic() + _READY_S
    while ask(port, "/healthz") is None:
        if monotonic() > deadline:
            raise RepstreamError(f"the monitor is not ready after {_READY_S:g} s")
        sleep(0.5)


def take(out: Path) -> None:
    """Take all pictures."""
    with tempfile.TemporaryDirectory(prefix="repstream-pictures-") as name, _running(Path(name)) as address:
        folder = Path(name)
        theirs = folder / "walk.csv"
        write_recording(resolve(["spar/s08-left-FEL-1"])[0], theirs)
        began = monotonic()
        with chromium() as browser:
            wearer = opened(browser, address, "wearer/spar-s10-left")
            phone = opened(browser, address, "everyone", size=PHONE, scheme="dark")
            wearer.wait_for_timeout(45_000)
            save(wearer, out / "page-wearer.png")
            save(phone, out / "page-phone.png", whole=False)
            upload = opened(browser, address, "upload")
            upload.set_input_files("#file", theirs)
            upload.wait_for_selector(".picture svg")
            save(upload, out / "page-upload.png")
            upload.wait_for_timeout(max(_UNTIL_DRIFT_S - (monotonic() - began), 0) * 1000)
            for view, scheme in (("everyone", "light"), ("drift", "dark"), ("break", "light")):
                page = opened(browser, address, view, scheme=scheme)
                page.wait_for_timeout(5_000)
                if view == "break":
                    page.select_option("#break-wearer", "spar-s10-right")
                    page.click('[data-fault="swap-wrist"]')
                    page.wait_for_timeout(12_000)
                save(page, out / f"page-{view}.png")


def main() -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="folder (default: docs/images)")
    try:
        take(parser.parse_args().out)
    except RepstreamError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
