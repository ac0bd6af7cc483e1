// Everyone: a tile for each wearer, what they all do over time, how the system does.

import { clock, colour, css, exercise, h, milliseconds, number, palette, paper, percent, put } from "./dom.js";
import { newTile, paintSparks, updateTile } from "./tile.js";

const MANY = 40;
const QUIET_S = 6;
const GONE_S = 900;
const MIX_S = 2;
const MIX_BUCKETS = 150;

const FATES = {
  used: "used in windows",
  buffered: "in hand, window not full yet",
  resampled: "left over by resampling to 50 Hz",
  ended: "at a session's end, no full window",
  gap: "before a gap, no full window",
  late: "too late",
  duplicate: "sent twice",
  backwards: "clock ran backwards",
  missing: "lost on the way",
  skipped: "skipped",
  rejected: "unreadable",
};

export class Everyone {
  title = "Everyone";
  query = "view=everyone";

  constructor(main, app) {
    this.app = app;
    this.tiles = new Map();
    this.mix = new Map();
    this.filter = "";
    this.seen = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const tile = this.tiles.get(entry.target.dataset.device);
        if (tile) tile.isVisible = entry.isIntersecting;
      }
      this.paintSoon();
    });
    this.list = h("ul", { class: "tiles", id: "tiles" });
    this.empty = h(
      "div",
      { class: "card empty" },
      h("strong", {}, "No wearers yet"),
      h("p", {}, "As soon as packets come in, each wearer has a tile here. To replay recordings:"),
      h("code", {}, "repstream produce 'spar/s08-*' --loop"),
    );
    this.search = h("input", {
      type: "search",
      placeholder: "Find a wearer",
      "aria-label": "Find a wearer",
      hidden: true,
      on: { input: () => this.find(this.search.value) },
    });
    this.canvas = h("canvas", { role: "img", "aria-label": "Share of each exercise over the last five minutes" });
    this.legend = h("ul", { class: "legend" });
    this.shares = new Map();
    for (const label of palette.keys()) {
      const share = h("b", { class: "num" }, "0 %");
      this.shares.set(label, share);
      this.legend.append(h("li", { class: "chip", "data-label": label }, `${exercise(label)} `, share));
    }
    this.from = h("span", {}, "5 min ago");
    this.facts = {};
    const facts = h("dl", { class: "facts" });
    for (const [key, name] of Object.entries({
      wearers: "Wearers",
      latency: "From movement to answer",
      packets: "Packets per second",
      lag: "Packets waiting",
      predictions: "Predictions per second",
      accuracy: "Right, where labelled",
    })) {
      const value = h("span", {}, "–");
      const more = h("small", {}, " ");
      this.facts[key] = { value, more };
      facts.append(h("div", { class: "fact" }, h("dt", {}, name), h("dd", {}, value, more)));
    }
    this.ledgerBody = h("dl", { class: "ledger num" });
    this.verdict = h("p", { class: "verdict" }, " ");
    this.overview = h(
      "div",
      { class: "wide-narrow" },
      h(
        "section",
        { class: "card mix", "aria-label": "Exercise mix" },
        h("h2", {}, "What they do"),
        this.canvas,
        h("div", { class: "mix-axis" }, this.from, h("span", {}, "now")),
        this.legend,
      ),
      h("section", { class: "card", "aria-label": "How it runs" }, h("h2", {}, "How it runs"), facts),
    );
    main.append(
      h("div", { class: "head" }, h("h1", {}, "Everyone"), this.search),
      this.empty,
      this.list,
      this.overview,
      h(
        "section",
        { class: "card", "aria-label": "Ledger" },
        h("h2", {}, "What became of every sample"),
        h("p", { class: "muted" }, "Each sample that the predictor was sent has exactly one fate; the fates add up."),
        this.ledgerBody,
        this.verdict,
      ),
    );
    this.ledgerRows = new Map();
    this.timer = setInterval(() => this.age(), 1000);
    this.onResize = () => this.repaint();
    addEventListener("resize", this.onResize);
  }

  close() {
    clearInterval(this.timer);
    if (this.frame) cancelAnimationFrame(this.frame);
    removeEventListener("resize", this.onResize);
    this.seen.disconnect();
  }

  on(name, data) {
    if (name === "status") return this.status(data);
    if (name !== "everyone") return;
    if (data.whole) this.mix.clear();
    this.t = data.t;
    const seen = new Set();
    for (const row of data.wearers) {
      seen.add(row[0]);
      this.update(row);
    }
    if (data.whole) {
      for (const device of [...this.tiles.keys()]) if (!seen.has(device)) this.drop(device);
      this.age();
    }
    for (const [t, counts] of data.mix) this.mix.set(t, counts);
    this.isMixStale = true;
    this.paintSoon();
  }

  update(row) {
    const device = row[0];
    let tile = this.tiles.get(device);
    if (!tile) {
      tile = newTile(device);
      this.tiles.set(device, tile);
      const after = [...this.list.children].find((li) => li.dataset.device > device);
      this.list.insertBefore(tile.item, after ?? null);
      this.seen.observe(tile.item);
      this.empty.hidden = true;
      this.arrange();
      tile.item.hidden = !device.toLowerCase().includes(this.filter);
    }
    updateTile(tile, row);
  }

  // People first; but whom nobody can take in at a glance comes after the overview.
  arrange() {
    const isMany = this.tiles.size > MANY;
    if (isMany === this.isMany) return;
    this.isMany = isMany;
    this.search.hidden = !isMany;
    this.list.classList.toggle("many", isMany);
    if (isMany) this.list.before(this.overview);
    else this.list.after(this.overview);
  }

  drop(device) {
    this.tiles.get(device).item.remove();
    this.tiles.delete(device);
    this.empty.hidden = this.tiles.size > 0;
  }

  age() {
    if (!this.t) return;
    const status = this.app.status;
    const now = status ? status.t : this.t;
    for (const [device, tile] of this.tiles) {
      const quiet = now - tile.seenS;
      if (quiet > GONE_S) this.drop(device);
      else if (quiet > QUIET_S) {
        tile.item.dataset.quiet = "";
        put(tile.right, `nothing for ${Math.round(quiet)} s`);
      }
    }
  }

  find(text) {
    this.filter = text.trim().toLowerCase();
    for (const [device, tile] of this.tiles) tile.item.hidden = !device.toLowerCase().includes(this.filter);
  }

  status(s) {
    const facts = this.facts;
    put(facts.wearers.value, number(s.wearers));
    put(facts.latency.value, s.latency_ms ? milliseconds(s.latency_ms.p50) : "–");
    put(facts.latency.more, s.latency_ms ? `95 % within ${milliseconds(s.latency_ms.p95)}` : s.behind_s ? "replayed: not live" : " ");
    put(facts.packets.value, number(s.packets_s));
    put(facts.packets.more, s.packets === null ? " " : `${number(s.packets)} so far`);
    put(facts.lag.value, number(s.lag));
    put(facts.lag.more, s.lag === null ? "no predictor yet" : " ");
    put(facts.predictions.value, number(s.predictions_s));
    put(facts.predictions.more, `${number(s.predictions)} so far`);
    put(facts.accuracy.value, percent(s.accuracy));
    put(facts.accuracy.more, s.labelled ? `of the last ${number(s.labelled)}` : "labels come later");
    const alarmed = new Set(s.alarms.filter((a) => !a.ended).map((a) => a.device));
    for (const [device, tile] of this.tiles) {
      put(tile.alarm, alarmed.has(device) ? "▲ alarm" : "");
    }
    this.ledger(s.ledger);
  }

  ledger(ledger) {
    const samples = ledger?.samples;
    if (!samples || !Object.keys(samples).length) {
      put(this.verdict, "The predictor has not written its ledger yet.");
      return;
    }
    const rows = [...Object.keys(FATES).filter((f) => f in samples), ...Object.keys(samples).filter((f) => f !== "sent" && !(f in FATES))];
    for (const fate of [...rows, "sent"]) {
      let row = this.ledgerRows.get(fate);
      if (!row) {
        const cell = h("dd", {});
        const element = h("div", { class: fate === "sent" ? "sum" : "" }, h("dt", {}, fate === "sent" ? "sent" : FATES[fate] ?? fate), cell);
        row = { cell, element };
        this.ledgerRows.set(fate, row);
        if (fate === "sent") this.ledgerBody.append(element);
        else this.ledgerBody.insertBefore(element, this.ledgerRows.get("sent")?.element ?? null);
      }
      put(row.cell, number(samples[fate]));
      if (fate !== "sent") row.element.classList.toggle("none", !samples[fate]);
    }
    const difference = ledger.difference ?? samples.sent - rows.reduce((sum, fate) => sum + samples[fate], 0);
    this.verdict.dataset.tone = difference ? "bad" : "good";
    put(this.verdict, difference ? `${number(Math.abs(difference))} samples are unaccounted for.` : "✓ It adds up: none is unaccounted for.");
  }

  // With the next frame, and only what is seen and has changed.
  paintSoon() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      paintSparks([...this.tiles.values()].filter((tile) => tile.isVisible && tile.isStale));
      if (this.isMixStale) this.paintMix();
      this.isMixStale = false;
    });
  }

  paintMix() {
    const sheet = paper(this.canvas);
    if (!sheet) return;
    const { context, width, height } = sheet;
    const labels = [...palette.keys()];
    const newest = Math.max(...this.mix.keys());
    if (!Number.isFinite(newest)) return;
    for (const t of this.mix.keys()) if (t < newest - MIX_S * MIX_BUCKETS) this.mix.delete(t);
    const oldest = Math.min(...this.mix.keys());
    // A short history fills the width all the same, from a minute on.
    const shown = Math.min(Math.max((newest - oldest) / MIX_S + 1, 30), MIX_BUCKETS);
    const step = width / shown;
    context.fillStyle = css("--soft");
    context.fillRect(0, 0, width, height);
    for (const [t, counts] of this.mix) {
      const x = width - ((newest - t) / MIX_S + 1) * step;
      const sum = Object.values(counts).reduce((a, b) => a + b, 0);
      let y = height;
      for (const label of labels) {
        const part = ((counts[label] ?? 0) / sum) * height;
        if (!part) continue;
        context.fillStyle = colour(label);
        context.fillRect(Math.floor(x), y - part, Math.ceil(x + step) - Math.floor(x), part);
        y -= part;
      }
    }
    const recent = {};
    for (const [t, counts] of this.mix) {
      if (t > newest - 10) for (const [label, n] of Object.entries(counts)) recent[label] = (recent[label] ?? 0) + n;
    }
    const sum = Object.values(recent).reduce((a, b) => a + b, 0) || 1;
    for (const [label, element] of this.shares) put(element, percent((recent[label] ?? 0) / sum));
    put(this.from, clock(newest - (shown - 1) * MIX_S));
  }

  repaint() {
    for (const tile of this.tiles.values()) tile.isStale = true;
    this.isMixStale = true;
    this.paintSoon();
  }
}
