// A wearer: signals that move, what is recognised and what was true, the session so far.

import uPlot from "./vendor/uPlot.esm.js";
import { clock, css, exercise, h, milliseconds, number, percent, put, span } from "./dom.js";

const SHOWN_S = 30;
const KEPT_S = 34;
// So far behind the newest sample the picture is drawn, s at live pace: packets come every 0.2 s.
const DELAY_S = 0.45;
const GUTTER = 52;
const RIGHT = 12;
const MOST_POINTS = 12000;
const TABLE_ROWS = 20;
// A shorter one has no room for its name.
const NAMED_S = 2;
const TIMELINE_S = 600;
const PANELS = [
  { key: "accel", name: "Acceleration, g", first: 0, unit: 0.001, steps: [2, 4, 8, 16, 32, 64, 128, 256] },
  { key: "gyro", name: "Turning, °/s", first: 3, unit: 0.1, steps: [250, 500, 1000, 2000, 4000, 8000] },
];

export class WearerView {
  constructor(main, app, device) {
    this.app = app;
    this.main = main;
    this.device = device || app.wearers[0] || "";
    this.title = this.device || "A wearer";
    this.query = this.device ? `wearer=${encodeURIComponent(this.device)}` : "view=everyone";
    this.reset();
    this.build();
    if (this.device) this.frame = requestAnimationFrame((t) => this.draw(t));
  }

  reset() {
    this.times = [];
    this.values = PANELS.map(() => [[], [], []]);
    this.nStrips = -1;
    this.nSaid = 0;
    this.said = [];
    this.told = [];
    this.head = null;
    this.newest = -Infinity;
    this.pace = 1;
    this.base = 0;
    this.isDirty = true;
  }

  build() {
    this.select = h("select", { id: "choose", on: { change: () => this.app.go(`#/wearer/${encodeURIComponent(this.select.value)}`) } });
    this.fillSelect();
    this.swatch = h("span", { class: "swatch", "aria-hidden": "true" });
    this.what = h("div", { class: "big", id: "says" }, "…");
    this.sure = h("div", { class: "muted num" }, " ");
    this.says = h("div", { class: "says" }, this.swatch, h("div", {}, this.what, this.sure));
    this.facts = {};
    const facts = h("dl", { class: "facts" });
    for (const [key, name] of Object.entries({ truth: "Really", right: "Right so far", latency: "Latency now", session: "This exercise since" })) {
      const value = h("span", {}, "–");
      const more = h("small", {}, " ");
      this.facts[key] = { value, more };
      facts.append(h("div", { class: "fact" }, h("dt", {}, name), h("dd", {}, value, more)));
    }
    this.plots = PANELS.map((panel) => ({ ...panel, box: h("div", { class: "signal", role: "img", "aria-label": `${panel.name}: three axes, the last half minute` }), step: panel.steps[0] }));
    this.saidStrip = h("div", { class: "strip" });
    this.trueStrip = h("div", { class: "strip" });
    this.waits = h("span", { class: "waits" }, "comes when the exercise is over");
    this.timeline = h("div", { class: "timeline", role: "img", "aria-label": "Recognised and true exercises of the last ten minutes" });
    this.timelineFrom = h("span", {}, " ");
    this.tableBody = h("tbody");
    this.note = h("p", { class: "card empty", hidden: true });
    const axes = h("span", { class: "axes-key" }, h("span", { class: "x" }, "x"), h("span", { class: "y" }, "y"), h("span", { class: "z" }, "z"));
    this.content = h(
      "div",
      { class: "wide", id: "wearer", hidden: !this.device },
      h("section", { class: "card now", "aria-label": "Now" }, this.says, facts),
    );
    this.signals = h(
      "section",
      { class: "card", "aria-label": "Signals", hidden: !this.device },
      this.plots.map((plot, i) => [h("div", { class: "plot-title" }, h("span", {}, plot.name), i === 0 ? axes : null), plot.box]),
      h(
        "div",
        { class: "bands" },
        h("span", { class: "name" }, "Said"),
        h("div", { class: "lane said" }, this.saidStrip),
        h("span", { class: "name" }, "True"),
        h("div", { class: "lane true" }, this.waits, this.trueStrip),
      ),
      h("p", { class: "muted small" }, "The height of a bar is how sure the model is of the three seconds that end there."),
    );
    this.session = h(
      "section",
      { class: "card", "aria-label": "Timeline", hidden: !this.device },
      h("h2", {}, "The last ten minutes"),
      this.timeline,
      h("div", { class: "mix-axis" }, this.timelineFrom, h("span", {}, "now")),
      h("p", { class: "muted small" }, "Above: recognised. Below: true."),
      h(
        "details",
        { on: { toggle: () => this.fillTable() } },
        h("summary", {}, "As a table"),
        h(
          "div",
          { class: "table-wrap", tabindex: "0", role: "region", "aria-label": "Newest predictions" },
          h(
            "table",
            { class: "data", id: "said-table" },
            h("thead", {}, h("tr", {}, ["Window ends", "Recognised", "Sure", "True"].map((t) => h("th", { scope: "col" }, t)))),
            this.tableBody,
          ),
        ),
      ),
    );
    this.details = this.session.querySelector("details");
    this.main.append(
      h("div", { class: "head" }, h("h1", { class: "sr" }, "A wearer"), h("label", { class: "field" }, "Wearer", this.select)),
      this.note,
      this.content,
      this.signals,
      this.session,
    );
    if (!this.device) this.say("Nobody to show yet", "As soon as the first wearer's packets come in, choose one above.");
    else {
      this.makePlots();
      this.sizes = new ResizeObserver(() => this.resize());
      this.sizes.observe(this.signals);
    }
  }

  fillSelect() {
    const names = [...new Set([...this.app.wearers, ...(this.device ? [this.device] : [])])].sort();
    if (names.length === this.select.options.length && names.length) return;
    this.select.replaceChildren(...(names.length ? names : ["–"]).map((n) => h("option", { value: n, selected: n === this.device }, n)));
    this.select.value = this.device || names[0] || "–";
  }

  say(title, text) {
    this.note.hidden = false;
    this.note.replaceChildren(h("strong", {}, title), h("span", {}, text));
  }

  makePlots() {
    for (const plot of this.plots) {
      plot.chart?.destroy();
      const colours = ["--axis-x", "--axis-y", "--axis-z"].map(css);
      const axis = { stroke: css("--muted"), grid: { stroke: css("--soft"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
      plot.chart = new uPlot(
        {
          width: Math.max(plot.box.clientWidth, 100),
          height: plot.box.clientHeight,
          padding: [6, RIGHT, 0, 0],
          legend: { show: false },
          cursor: { show: false },
          select: { show: false },
          scales: { x: { time: false, auto: false }, y: { auto: false, min: -plot.step, max: plot.step } },
          axes: [
            { ...axis, size: 22, space: 70, incrs: [1, 2, 5, 10], values: (_, at) => at.map((t) => clock(t)) },
            { ...axis, size: GUTTER, space: 26 },
          ],
          series: [{}, ...colours.map((stroke) => ({ stroke, width: 1.5, points: { show: false } }))],
        },
        [[], [], [], []],
        plot.box,
      );
    }
  }

  resize() {
    for (const plot of this.plots) plot.chart.setSize({ width: Math.max(plot.box.clientWidth, 100), height: plot.box.clientHeight });
    const lane = this.saidStrip.parentElement.clientWidth;
    this.pixelsPerS = lane / SHOWN_S;
    for (const strip of [this.saidStrip, this.trueStrip]) strip.style.setProperty("--pps", this.pixelsPerS);
  }

  repaint() {
    if (this.device) this.makePlots();
    this.isDirty = true;
  }

  close() {
    cancelAnimationFrame(this.frame);
    this.sizes?.disconnect();
    for (const plot of this.plots) plot.chart?.destroy();
  }

  on(name, data) {
    if (name === "everyone") {
      this.fillSelect();
      if (!this.device && this.app.wearers.length) this.app.go(`#/wearer/${encodeURIComponent(this.app.wearers[0])}`);
      return;
    }
    if (name === "status") {
      this.status(data);
      return;
    }
    if (name !== "wearer" || data.device !== this.device) return;
    if (data.whole) {
      this.reset();
      this.rebuildBands();
      this.isKnown = data.known;
    }
    if (data.strips) this.addStrips(data.strips, data.n_strips);
    if (data.told) this.setTold(data.told);
    if (data.said) this.addSaid(data.said, data.n_said);
    if (data.runs) this.standing(data);
    if (this.details.open && data.said) this.fillTable();
  }

  status(status) {
    if (!this.app.wearers.length && !this.asked) this.askNames();
    const known = this.isKnown || this.nSaid > 0 || this.times.length > 0;
    if (!this.device) return;
    if (known) this.note.hidden = true;
    else if (status.trouble === "") this.say(`Nothing of “${this.device}” yet`, "No packet of this wearer has come in the last minutes. Choose another one above, or wait.");
  }

  async askNames() {
    // Names for the choice above: one look at everyone.
    this.asked = true;
    const source = new EventSource("events?view=everyone");
    source.addEventListener("everyone", (event) => {
      source.close();
      this.app.wearers = JSON.parse(event.data).wearers.map((w) => w[0]).sort();
      this.fillSelect();
    });
    source.addEventListener("error", () => source.close());
  }

  addStrips(strips, n) {
    const after = n - strips.length;
    for (let i = 0; i < strips.length; i++) {
      if (after + i < this.nStrips) continue;
      const [start, at, values] = strips[i];
      this.addPacket(start, at, values);
    }
    this.nStrips = n;
    const oldest = this.newest - KEPT_S;
    let drop = 0;
    while (drop < this.times.length && (this.times[drop] < oldest || this.times.length - drop > MOST_POINTS)) drop++;
    if (drop) {
      this.times.splice(0, drop);
      for (const panel of this.values) for (const axis of panel) axis.splice(0, drop);
    }
    this.isDirty = true;
  }

  addPacket(start, at, values) {
    let place = this.times.length;
    // Late packets go where they belong; a session that begins leaves a hole, not a line.
    while (place > 0 && this.times[place - 1] > start) place--;
    const times = at.map((ms) => start + ms / 1000);
    const isGap = place > 0 && start - this.times[place - 1] > 0.3;
    if (isGap) times.unshift(start - 0.001);
    this.times.splice(place, 0, ...times);
    PANELS.forEach((panel, p) => {
      for (let axis = 0; axis < 3; axis++) {
        const column = isGap ? [null] : [];
        for (let i = 0; i < at.length; i++) column.push(values[6 * i + panel.first + axis] * panel.unit);
        this.values[p][axis].splice(place, 0, ...column);
      }
    });
    this.newest = Math.max(this.newest, times.at(-1));
  }

  addSaid(said, n) {
    const after = n - said.length;
    said.forEach((row, i) => {
      const [session, index, start, end, label, confidence, truth, isRight] = row;
      if (after + i < this.nSaid) {
        const known = this.said.at(after + i - this.nSaid);
        if (known) Object.assign(known, { truth, isRight });
        return;
      }
      const last = this.said.at(-1);
      const from = last && last.session === session && end - last.end < 2 ? last.end : end - 0.5;
      this.said.push({ session, index, start, end, from, label, confidence, truth, isRight });
      this.addBar(this.said.at(-1), last);
    });
    this.nSaid = n;
    if (this.said.length > 160) this.said.splice(0, this.said.length - 160);
    const now = this.said.at(-1);
    if (!now) return;
    this.says.dataset.label = now.label;
    put(this.what, exercise(now.label));
    put(this.sure, `${percent(now.confidence)} sure`);
  }

  addBar(said, last) {
    if (!this.base) this.base = said.from - 60;
    const bar = h("span", { class: "bar", "data-label": said.label, "data-id": `${this.device}/${said.session}/${said.index}` });
    place(bar, said.from - this.base, said.end - said.from);
    bar.style.setProperty("--confidence", said.confidence.toFixed(3));
    this.saidStrip.append(bar);
    const joins = last && last.label === said.label && last.session === said.session && last.end === said.from && this.run;
    if (joins) {
      this.run.until = said.end;
      place(this.run.element, this.run.from - this.base, said.end - this.run.from);
      if (said.end - this.run.from >= NAMED_S) put(this.run.element, exercise(said.label));
    } else {
      this.run = { from: said.from, until: said.end, element: h("span", { class: "run", "data-label": said.label }) };
      place(this.run.element, said.from - this.base, said.end - said.from);
      this.saidStrip.append(this.run.element);
    }
    const oldest = said.end - this.base - 45;
    for (const old of [...this.saidStrip.children]) {
      if (Number(old.style.getPropertyValue("--from")) + Number(old.style.getPropertyValue("--for")) < oldest) old.remove();
    }
  }

  rebuildBands() {
    this.saidStrip.replaceChildren();
    this.trueStrip.replaceChildren();
    this.run = null;
  }

  setTold(told) {
    this.told = told.map(([session, start, end, label]) => ({ session, start, end, label }));
    if (!this.base && this.told.length) this.base = this.told.at(-1).start - 60;
    this.trueStrip.replaceChildren(
      ...this.told.slice(-12).map((t) => {
        const band = h("span", { class: "truth", "data-label": t.label }, exercise(t.label));
        place(band, t.start - this.base, t.end - t.start);
        return band;
      }),
    );
    this.waits.hidden = false;
  }

  standing(data) {
    const facts = this.facts;
    put(facts.right.value, data.labelled ? percent(data.right / data.labelled) : "–");
    put(facts.right.more, data.labelled ? `${number(data.right)} of ${number(data.labelled)} windows` : "labels come later");
    put(facts.latency.value, milliseconds(data.latency_ms));
    put(facts.latency.more, data.latency_ms === null ? "a replay, not live" : "newest sample to answer");
    const truth = this.said.at(-1)?.truth;
    const before = this.told.at(-1);
    put(facts.truth.value, truth ? exercise(truth) : "not told yet");
    put(facts.truth.more, truth ? " " : before ? `before: ${exercise(before.label)}` : "told when it is over");
    const run = data.runs.at(-1);
    if (run) {
      put(facts.session.value, span(Math.max(run[2] - run[1], 0)));
      put(facts.session.more, `on average ${percent(run[5])} sure`);
    }
    this.paintTimeline(data.runs);
  }

  paintTimeline(runs) {
    const newest = Math.max(runs.at(-1)?.[2] ?? 0, this.newest > 0 ? this.newest : 0);
    if (!newest) return;
    const first = Math.min(...runs.map((r) => r[1]), ...this.told.map((t) => t.start));
    const from = Math.max(first, newest - TIMELINE_S);
    const length = Math.max(newest - from, 30);
    const piece = (kind, start, end, label, title) => {
      if (end <= from) return null;
      const begin = Math.max(start, from);
      return h("span", { class: kind, "data-label": label, title, style: { "--from": ((begin - (newest - length)) / length).toFixed(5), "--for": ((end - begin) / length).toFixed(5) } });
    };
    this.timeline.replaceChildren(
      ...[
        ...runs.map(([, start, end, label]) => piece("tl-said", start, end, label, `${exercise(label)}, ${clock(start)} to ${clock(end)}`)),
        ...this.told.map((t) => piece("tl-true", t.start, t.end, t.label, `really: ${exercise(t.label)}`)),
      ].filter(Boolean),
    );
    put(this.timelineFrom, clock(newest - length));
  }

  fillTable() {
    if (!this.details.open) return;
    const rows = this.said.slice(-TABLE_ROWS).reverse();
    this.tableBody.replaceChildren(
      ...rows.map((s) => {
        return h(
          "tr",
          { "data-id": `${this.device}/${s.session}/${s.index}`, "data-said": s.label },
          h("td", {}, clock(s.end)),
          h("td", {}, h("span", { class: "chip", "data-label": s.label }, exercise(s.label))),
          h("td", {}, percent(s.confidence)),
          h("td", { class: s.isRight === false ? "wrong" : "" }, s.truth ? exercise(s.truth) : "not known yet"),
        );
      }),
    );
  }

  // The picture runs on by itself, at the pace at which samples come, a little behind the newest one.
  draw(now) {
    this.frame = requestAnimationFrame((t) => this.draw(t));
    const dt = Math.min((now - (this.drawnAt ?? now)) / 1000, 0.25);
    this.drawnAt = now;
    if (!Number.isFinite(this.newest)) return;
    if (this.markNewest === undefined) [this.markNewest, this.markAt] = [this.newest, now];
    if (now - this.markAt > 1000) {
      const pace = (this.newest - this.markNewest) / ((now - this.markAt) / 1000);
      if (pace >= 0 && pace < 100) this.pace += 0.5 * (pace - this.pace);
      [this.markNewest, this.markAt] = [this.newest, now];
    }
    const goal = this.newest - DELAY_S * Math.max(this.pace, 1);
    const before = this.head;
    if (this.head === null || Math.abs(goal - this.head) > 3 * Math.max(this.pace, 1)) this.head = goal;
    else this.head = Math.min(this.head + dt * (this.pace + (goal - this.head) * 0.8), this.newest);
    if (before !== null && this.head < before && before - this.head < 1) this.head = before;
    if (this.head === before && !this.isDirty) return;
    PANELS.forEach((_, p) => {
      const plot = this.plots[p];
      plot.chart.batch(() => {
        if (this.isDirty) {
          plot.step = stepFor(this.values[p], plot);
          plot.chart.setScale("y", { min: -plot.step, max: plot.step });
          plot.chart.setData([this.times, ...this.values[p]], false);
        }
        plot.chart.setScale("x", { min: this.head - SHOWN_S, max: this.head });
      });
    });
    this.isDirty = false;
    if (this.base) {
      const shift = `translateX(${((SHOWN_S - (this.head - this.base)) * (this.pixelsPerS ?? 1)).toFixed(1)}px)`;
      this.saidStrip.style.transform = shift;
      this.trueStrip.style.transform = shift;
      this.keepNamesInView();
      const told = this.told.at(-1);
      this.waits.hidden = Boolean(told && told.end > this.head - 9);
      if (this.head - this.base > 7200) this.rebase();
    }
  }

  // The name of what began before the picture does stays at its left edge.
  keepNamesInView() {
    const left = this.head - SHOWN_S - this.base;
    for (const strip of [this.saidStrip, this.trueStrip]) {
      for (const element of strip.children) {
        if (element.className === "bar") continue;
        const hidden = Math.max(left - Number(element.style.getPropertyValue("--from")), 0) * this.pixelsPerS;
        element.style.textIndent = `${hidden.toFixed(1)}px`;
      }
    }
  }

  // Far from its base a strip would lose its pixels to rounding.
  rebase() {
    const by = this.head - 60 - this.base;
    this.base += by;
    for (const element of [...this.saidStrip.children, ...this.trueStrip.children]) {
      element.style.setProperty("--from", (Number(element.style.getPropertyValue("--from")) - by).toFixed(4));
    }
  }
}

function place(element, from, length) {
  element.style.setProperty("--from", from.toFixed(4));
  element.style.setProperty("--for", length.toFixed(4));
}

// The scale grows at once and shrinks only when there is much room: a picture that breathes is hard to read.
function stepFor(axes, plot) {
  let most = 0;
  for (const axis of axes) for (const v of axis) if (v !== null && (v > most || -v > most)) most = Math.abs(v);
  const needed = plot.steps.find((s) => s >= most) ?? most * 1.1;
  if (needed > plot.step) return needed;
  return most < plot.step * 0.4 ? needed : plot.step;
}
