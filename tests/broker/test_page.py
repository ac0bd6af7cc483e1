"""The live page in a real browser, on a real Kafka, with real services as processes."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from demo.screenshots import CHROMIUMS, DESK, PHONE, chromium, opened
from repstream.broker.broker import EmbeddedBroker
from repstream.messages import messages, topics
from repstream.processes.ports import free_port
from repstream.recordings.axes import AXES
from repstream.recordings.recording import Recording
from repstream.recordings.tables import write_recording
from tests.broker.services import (
    end,
    healthy,
    predict_arguments,
    read_predictions,
    read_topic,
    start_service,
    wait_until,
)
from tests.exports import motion, phyphox, sensor_logger_phone
from tests.support import rows_of, spar_named, write_csv
from tests.tools import program

AXE = Path(__file__).resolve().parents[1] / "data" / "axe" / "axe.min.js"
VIEWS = ("everyone", "wearer/left-1", "drift", "break", "upload")
DEVICES = ("left-1", "left-2", "right-1")


@dataclass
class Stage:
    """A running system."""

    bootstrap: str
    port: int
    folder: Path
    watch: list[str]
    play: list[str]
    monitor: Popen[bytes]
    producer: Popen[bytes]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


def short(name: str, device: str, n: int) -> Recording:
    """The first so many samples of a recording, on a device of our own: labels come when it is over."""
    whole = spar_named(name)
    assert whole.labels is not None
    return Recording(
        name=f"{device}-{name[-5:]}",
        subject=whole.subject,
        session=f"{device}-{name[-5:]}",
        device=device,
        time_s=whole.time_s[:n],
        values=whole.values[:n],
        rate_hz=whole.rate_hz,
        side=whole.side,
        labels=whole.labels[:n],
    )


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("page")
    recordings = folder / "recordings"
    for device, names in zip(DEVICES, (("left-ROW", "left-PEN"), ("left-ABD",), ("right-FEL",)), strict=True):
        for name in names:
            recording = short(f"s08-{name}-1", device, 500)
            write_recording(recording, recordings / f"{recording.name}.parquet")
    log, port = folder / "services.log", free_port()
    with EmbeddedBroker.start(folder / "kafka") as broker:
        to = ["--bootstrap-servers", broker.bootstrap_servers]
        watch = ["monitor", *to, "--port", str(port), "--reports", str(folder / "reports")]
        watch += ["--predictor-group", "test", "--no-alarm-reports"]
        play = ["produce", str(recordings), *to, "--loop", "--controllable", "--quiet"]
        predictor = start_service(*predict_arguments(broker.bootstrap_servers), log=log)
        running = Stage(
            broker.bootstrap_servers,
            port,
            folder,
            watch,
            play,
            start_service(*watch, log=log),
            start_service(*play, log=log),
        )
        try:
            wait_until(lambda: len(read_predictions(broker.bootstrap_servers)) > 5, "predictions", 90)
            wait_until(lambda: healthy(port), f"the monitor answers\n{log.read_text()[-2000:]}", 60)
            yield running
        finally:
            for process in (running.producer, running.monitor, predictor):
                end(process, timeout_s=90)  # a pass that has just begun is finished first


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program(*CHROMIUMS, package="chromium")
    with chromium() as running:
        yield running


@pytest.fixture
def see(stage: Stage, browser: Browser) -> Iterator[Callable[..., Page]]:
    """Return a function that opens a view; a script's failure, or a request that goes elsewhere, fails the test."""
    pages: list[Page] = []
    trouble: list[str] = []

    def open_view(view: str, size: dict[str, int] = DESK, scheme: str = "light") -> Page:
        page = opened(browser, stage.address, view, size=size, scheme=scheme)
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("request", lambda r: trouble.append(r.url) if not r.url.startswith(stage.address) else None)
        pages.append(page)
        return page

    yield open_view
    for page in pages:
        page.close()
    assert trouble == []


def bars(page: Page) -> dict[str, str]:
    """Windows on the page: id and label."""
    found = page.eval_on_selector_all(".bar", "all => all.map(b => [b.dataset.id, b.dataset.label])")
    return dict(found)


def state_of(page: Page) -> str:
    return page.inner_text("#state-text")


def test_the_bands_show_what_the_predictions_and_labels_topics_hold(stage: Stage, see: Callable[..., Page]) -> None:
    page = see("wearer/left-1")
    wait_until(lambda: len(bars(page)) >= 30, "half a minute of predictions", 60)
    wait_until(lambda: page.query_selector(".truth") is not None, "a true exercise", 30)
    shown = bars(page)
    held = {p.id: p.label for p in read_predictions(stage.bootstrap) if p.device == "left-1"}
    assert shown.items() <= held.items()
    ordered = [i for i in held if i in shown]
    first, last = list(held).index(ordered[0]), list(held).index(ordered[-1])
    assert list(held)[first : last + 1] == ordered, "none between the first and the last is missing"
    told = [messages.decode_label(r.value) for r in read_topic(stage.bootstrap, topics.LABELS)]
    labels = {t.label for t in told if t.device == "left-1"}
    seen = set(page.eval_on_selector_all(".truth", "all => all.map(b => b.dataset.label)"))
    assert seen
    assert seen <= labels == {"ROW", "PEN"}
    page.click("summary")
    rows = page.eval_on_selector_all("#said-table tbody tr", "all => all.map(r => [r.dataset.id, r.dataset.said])")
    assert len(rows) == 20
    assert dict(rows).items() <= {p.id: p.label for p in read_predictions(stage.bootstrap)}.items()


def test_the_six_signals_move_smoothly(see: Callable[..., Page]) -> None:
    page = see("wearer/left-2")
    page.wait_for_selector(".signal canvas")
    page.wait_for_timeout(3_000)
    lane = page.evaluate("document.querySelector('.lane.said').clientWidth")

    def moves() -> bool:
        """Whether it moves as the wearer does; not in the second between two sessions."""
        places = page.evaluate(
            """async () => {
              const strip = document.querySelector(".lane.said .strip");
              const seen = [];
              for (let i = 0; i < 60; i++) {
                await new Promise(requestAnimationFrame);
                seen.push([performance.now(), new DOMMatrix(getComputedStyle(strip).transform).m41]);
              }
              return seen;
            }"""
        )
        steps = [a[1] - b[1] for a, b in itertools.pairwise(places)]
        assert all(step >= 0 for step in steps), "it never jumps back"
        seconds = (places[-1][0] - places[0][0]) / 1000
        at_pace = sum(steps) == pytest.approx(lane / 30 * seconds, rel=0.35)
        return at_pace and sum(step > 0 for step in steps) > len(steps) * 0.8

    wait_until(moves, "it moves with the frames, not with the packets, at the pace of the wearer", 30)


def test_everyone_has_a_tile_with_what_it_does_now(stage: Stage, see: Callable[..., Page]) -> None:
    page = see("everyone")
    wait_until(lambda: len(page.query_selector_all(".tile")) == len(DEVICES), "a tile for each wearer", 20)
    newest = {p.device: p.label for p in read_predictions(stage.bootstrap)}
    assert set(newest) == set(DEVICES)
    for device in DEVICES:
        wait_until(
            lambda d=device: (
                page.get_attribute(f'.tile[data-device="{d}"]', "data-label")  # type: ignore[misc]
                in [p.label for p in read_predictions(stage.bootstrap) if p.device == d][-4:]
            ),
            f"what {device} does now",
            20,
        )
    wait_until(lambda: "It adds up" in page.inner_text("main"), "the ledger adds up", 20)
    page.click('.tile[data-device="left-2"] a')
    page.wait_for_selector("#wearer")
    assert page.url.endswith("#/wearer/left-2")


def test_the_replay_is_paused_resumed_and_broken_from_the_page(stage: Stage, see: Callable[..., Page]) -> None:
    page = see("break")
    page.wait_for_selector("[data-fault]:visible")
    page.select_option("#break-wearer", "right-1")
    page.click('[data-fault="rotate:90"]')
    page.wait_for_selector("text=rotate:90 is on right-1 now.")
    page.wait_for_selector("code:has-text('rotate:90 on right-1')")
    page.click("button:has-text('End all faults')")
    page.wait_for_selector("li:has-text('None.')")
    page.click("button:has-text('Pause')")
    wait_until(lambda: state_of(page).startswith("Paused"), "the page says that it is paused", 15)
    page.wait_for_timeout(1_000)
    n = len(read_topic(stage.bootstrap, topics.SAMPLES))
    page.wait_for_timeout(2_000)
    assert len(read_topic(stage.bootstrap, topics.SAMPLES)) == n, "nothing is sent in a pause"
    page.click("button:has-text('Resume')")
    wait_until(lambda: state_of(page).startswith("Live"), "it is live again", 15)


def test_a_sensor_turned_from_the_page_brings_an_alarm_in_words(see: Callable[..., Page]) -> None:
    page = see("break")
    page.wait_for_selector("[data-fault]:visible")
    page.select_option("#break-wearer", "left-2")
    page.select_option("#break-span", "300")
    page.click('[data-fault="rotate:90"]')
    alarm = page.wait_for_selector('.alarm-card[data-device="left-2"][data-cause="rotated"]', timeout=150_000)
    assert alarm is not None
    assert "What to do:" in alarm.inner_text()
    assert int(page.inner_text("#alarm-count")) >= 1
    page.click("button:has-text('End all faults')")
    page.wait_for_selector('.alarm-card.over[data-device="left-2"]', timeout=200_000)


def test_a_visitor_s_own_recording_is_replayed_and_predicted(
    stage: Stage, see: Callable[..., Page], tmp_path: Path
) -> None:
    rows = rows_of(short("s08-left-IR-1", "x", 400))
    for row in rows:
        row[0] = str(round(float(row[0]) * 1000))
    theirs = write_csv(tmp_path / "phone.csv", rows, ["ms", "ax", "ay", "az", "gx", "gy", "gz"])
    page = see("upload")
    page.set_input_files("#file", theirs)
    page.wait_for_selector("form:visible")
    page.select_option("[data-key=side]", "left")
    page.click("button:has-text('Replay it')")
    page.wait_for_url("**#/wearer/upload-*", timeout=30_000)
    wait_until(lambda: len(bars(page)) >= 6, "its predictions", 60)
    device = page.url.rpartition("/")[2]
    shown = bars(page)  # before what Kafka holds, which becomes more meanwhile
    held = {p.id: p.label for p in read_predictions(stage.bootstrap) if p.device == device}
    assert shown.items() <= held.items()


def serious(page: Page) -> list[str]:
    """What axe finds on a page and calls serious or worse."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")["violations"]
    return [f"{v['id']}: {v['nodes'][0]['html'][:120]}" for v in found if v["impact"] in ("serious", "critical")]


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip of two people's exports, and of one that has no gyroscope."""
    folder = tmp_path_factory.mktemp("theirs")
    for person, seconds in (("ann", 12.0), ("bob", 15.0)):
        sensor_logger_phone(folder / "all" / person, motion(seconds), ios=False, device=person)
    phyphox(folder / "all" / "carla", motion())
    (folder / "all" / "carla" / "Gyroscope.csv").unlink()
    return Path(shutil.make_archive(str(folder / "all"), "zip", folder / "all"))


def test_all_of_an_archive_are_shown_with_what_they_are_worth_and_replayed_together(
    stage: Stage, see: Callable[..., Page], several: Path
) -> None:
    page = see("upload")
    page.set_input_files("#file", several)
    page.wait_for_selector("h2:has-text('all.zip: 2 recordings')")
    assert page.evaluate("document.activeElement.textContent").startswith("all.zip"), "a reader goes on there"
    page.wait_for_function("document.querySelectorAll('.picture svg').length === 4")
    assert "no gyroscope; six axes are needed" in page.inner_text("section:has(h2:text('Not imported'))")
    assert "gyroscope interpolated to 599 samples" in page.inner_text(".recordings")
    page.fill("[data-key=label]", "walking")
    page.click("button:has-text('Read again')")
    page.wait_for_selector("text=Whole windows: walking 3")
    page.click("button:has-text('Replay all 2')")
    page.wait_for_url("**#/everyone")
    for person in ("ann", "bob"):
        page.wait_for_selector(f".tile:has-text('-{person}')", timeout=30_000)


def test_columns_that_nobody_can_guess_are_chosen_by_hand(see: Callable[..., Page], tmp_path: Path) -> None:
    m = motion(8.0)
    columns = np.column_stack([m.t, m.accel, np.degrees(m.gyro)])
    theirs = write_csv(tmp_path / "x.csv", [[repr(float(x)) for x in row] for row in columns], list("pqrkuvn"))
    page = see("upload")
    page.set_input_files("#file", theirs)
    page.wait_for_selector("text=no column of times found among")
    for key, name in zip(("time", *AXES), "pqrkuvn", strict=True):
        page.select_option(f"[data-key=column-{key}]", name)
    page.click("button:has-text('Read again')")
    page.wait_for_selector("h2:has-text('x.csv: 1 recording')")
    assert page.inner_text("[role=alert]").strip() == ""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_an_archive_holds_fits_a_phone_and_axe_finds_nothing_serious(
    stage: Stage, browser: Browser, several: Path, scheme: str
) -> None:
    context = browser.new_context(viewport=PHONE, color_scheme=scheme, bypass_csp=True)  # type: ignore[arg-type]
    try:
        page = context.new_page()
        page.goto(f"{stage.address}#/upload")
        page.set_input_files("#file", several)
        page.wait_for_selector(".picture svg")
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        assert serious(page) == []
    finally:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_every_view_fits_a_phone_and_a_wide_screen(see: Callable[..., Page], view: str, scheme: str) -> None:
    page = see(view, PHONE, scheme)
    page.wait_for_timeout(1_500)
    over = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(over) == 0
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(c) for c in paper[4:-1].split(","))
    assert brightness < 150 if scheme == "dark" else brightness > 600
    page.set_viewport_size({"width": 1900, "height": 900})
    page.wait_for_timeout(300)
    assert page.evaluate(over) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing_serious(stage: Stage, browser: Browser, view: str, scheme: str) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme=scheme, bypass_csp=True)  # type: ignore[arg-type]
    try:
        page = context.new_page()
        page.goto(f"{stage.address}#/{view}")
        page.wait_for_selector('#state[data-tone="good"]')
        page.wait_for_timeout(1_500)
        assert serious(page) == []
    finally:
        context.close()


def test_all_views_are_reached_by_keyboard_alone(see: Callable[..., Page]) -> None:
    page = see("everyone")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    reached = {}
    for _ in range(12):
        page.keyboard.press("Tab")
        view = page.evaluate("document.activeElement.dataset?.view ?? ''")
        if view:
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", "where the focus is can be seen"
            reached[view] = True
    assert list(reached) == ["everyone", "wearer", "drift", "break", "upload"]
    page.focus('[data-view="drift"]')
    page.keyboard.press("Enter")
    page.wait_for_selector("h1:has-text('Drift')")
    assert page.evaluate("document.activeElement.id") == "main", "a reader begins at the new content"
    wait_until(lambda: bool(page.query_selector(".heat canvas")), "the heat map", 10)
    page.wait_for_timeout(2_500)
    page.focus(".heat canvas")
    page.keyboard.press("ArrowDown")
    assert " at " in page.inner_text(".heat-readout")


def test_colours_are_switched_by_hand_and_stay_so(see: Callable[..., Page]) -> None:
    page = see("everyone")
    page.click("#theme")
    page.click("#theme")
    assert page.get_attribute("html", "data-theme") == "dark"
    page.reload()
    page.wait_for_selector('#state[data-tone="good"]')
    assert page.get_attribute("html", "data-theme") == "dark"


def test_a_killed_producer_is_told_and_a_new_one_is_seen(stage: Stage, see: Callable[..., Page]) -> None:
    page = see("wearer/left-1")
    end(stage.producer, signal.SIGKILL)
    wait_until(lambda: "the producer has stopped" in state_of(page), "the page says that the producer has stopped", 30)
    assert state_of(page).startswith("No data for ")
    assert page.get_attribute("#state", "data-tone") == "bad"
    stage.producer = start_service(*stage.play, log=stage.folder / "services.log")
    wait_until(lambda: state_of(page).startswith("Live"), "it is live again by itself", 60)


def test_a_monitor_that_went_away_is_found_again(stage: Stage, see: Callable[..., Page]) -> None:
    page = see("everyone")
    end(stage.monitor, signal.SIGKILL)
    wait_until(lambda: "does not answer" in state_of(page), "the page says that the monitor is away", 30)
    stage.monitor = start_service(*stage.watch, log=stage.folder / "services.log")
    wait_until(lambda: state_of(page).startswith("Live"), "it is back by itself", 60)
    assert len(page.query_selector_all(".tile")) >= len(DEVICES)
    assert json.loads(page.evaluate("fetch('palette.json').then(r => r.text())"))
