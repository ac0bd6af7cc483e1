// Drift: features by time, the few that drift most, what is answered, alarms in words.

import { alarmKey, alarmList } from "./alarms.js";
import { clock, css, exercise, h, palette, paper, percent, put, svg } from "./dom.js";

const ROW_PX = 5;
const MOST_PASSES = 180;
// Scores beyond this are drawn alike.
const MOST_SCORE = 2;
// Cividis: even steps of lightness for every eye. Nuñez, Anderton and Renslow (2018).
const CIVIDIS = ["#00224e", "#35456c", "#666970", "#948e77", "#c8b866", "#fee838"];

export class Drift {
  title = "Drift";
  query = "view=drift";

  constructor(main, app) {
    this.app = app;
    this.passes = [];
    this.features = [];
    this.order = [];
    this.at = null;
    this.canvas = h("canvas", {
      tabindex: "0",
      role: "application",
      "aria-label": "Heat map of drift, features by time; move with the arrow keys",
      on: {
        pointermove: (event) => this.point(event),
        pointerleave: () => this.show(null),
        keydown: (event) => this.key(event),
        blur: () => this.show(null),
      },
    });
    this.names = h("div", { class: "heat-names", "aria-hidden": "true" });
    this.readout = h("p", { class: "heat-readout", role: "status" }, " ");
    this.ramp = h("canvas", { "aria-hidden": "true" });
    this.limit = h("span", {}, "");
    this.summary = h("p", { class: "muted" }, "Waiting for the first pass over the predictions …");
    this.shapes = h("div", { class: "shapes" });
    this.answers = h("div", { class: "answers" });
    this.targetLine = h("p", { class: "muted" }, " ");
    this.alarms = h("div", { class: "alarms", id: "alarms", tabindex: "0", role: "region", "aria-label": "List of alarms" });
    this.from = h("span", {}, " ");
    main.append(
      h("div", { class: "head" }, h("h1", {}, "Drift"), h("a", { class: "button", href: "report?n=5", target: "_blank", rel: "noopener" }, "Full report of the last five minutes")),
      h(
        "div",
        { class: "wide-narrow" },
        h(
          "section",
          { class: "card", "aria-label": "Features over time" },
          h("h2", {}, "How far each feature is from what the model knows"),
          this.summary,
          h("div", { class: "heat" }, this.names, this.canvas),
          h("div", { class: "mix-axis" }, this.from, h("span", {}, "newest pass")),
          this.readout,
          h("div", { class: "ramp" }, h("span", {}, "0: as in training"), this.ramp, h("span", {}, `${MOST_SCORE} or more`), this.limit),
        ),
        h("section", { class: "card", "aria-label": "Alarms" }, h("h2", {}, "Alarms"), this.alarms),
      ),
      h(
        "section",
        { class: "card", "aria-label": "Most drifted features" },
        h("h2", {}, "The features that drift most"),
        h("p", { class: "muted" }, h("span", { class: "key-then" }, "reference, mixed as now"), "   ", h("span", { class: "key-live" }, "now")),
        this.shapes,
      ),
      h("section", { class: "card", "aria-label": "Answers" }, h("h2", {}, "What is recognised, now and in the reference"), this.targetLine, this.answers),
    );
    this.onResize = () => this.paint();
    addEventListener("resize", this.onResize);
  }

  close() {
    removeEventListener("resize", this.onResize);
  }

  on(name, data) {
    if (name === "status") {
      const key = alarmKey(data.alarms);
      if (key !== this.alarmKey) {
        this.alarmKey = key;
        this.alarms.replaceChildren(...alarmList(data.alarms, data.t, "None: nothing unusual is going on."));
      }
      return;
    }
    if (name !== "drift") return;
    if (data.whole) {
      this.passes = [];
      this.setFeatures(data.features);
    }
    for (const pass of data.passes) if (!this.passes.length || pass[0] > this.passes.at(-1)[0]) this.passes.push(pass);
    if (this.passes.length > MOST_PASSES) this.passes.splice(0, this.passes.length - MOST_PASSES);
    if (data.pass) this.closer(data);
    this.paint();
  }

  // Axis by axis, whatever the model's own order is.
  setFeatures(names) {
    this.features = names;
    const group = (name) => name.match(/^(accel|gyro)_[xyz]/)?.[0] ?? "other";
    const groups = [...new Set(names.map(group))].sort((a, b) => (a === "other") - (b === "other") || a.localeCompare(b));
    this.order = groups.flatMap((g) => names.map((n, i) => [n, i]).filter(([n]) => group(n) === g).map(([, i]) => i));
    this.canvas.style.height = `${names.length * ROW_PX}px`;
    let top = 0;
    this.names.replaceChildren(
      ...groups.map((g) => {
        const n = names.filter((name) => group(name) === g).length;
        const label = h("span", {}, g.replace("_", " "));
        label.style.top = `${(top + n / 2) * ROW_PX}px`;
        top += n;
        return label;
      }),
    );
  }

  paint() {
    const sheet = paper(this.canvas);
    if (!sheet || !this.features.length) return;
    const { context, width, height } = sheet;
    const shown = Math.max(this.passes.length, 24);
    this.step = width / shown;
    context.fillStyle = css("--soft");
    context.fillRect(0, 0, width, height);
    this.passes.forEach(([, , scores], p) => {
      if (!scores) return;
      const x = width - (this.passes.length - p) * this.step;
      const left = Math.floor(x);
      const wide = Math.ceil(x + this.step) - left;
      this.order.forEach((feature, row) => {
        context.fillStyle = heat(scores[feature] / 100);
        context.fillRect(left, row * ROW_PX, wide, ROW_PX);
      });
    });
    if (this.at) {
      context.strokeStyle = css("--bad");
      context.lineWidth = 2;
      context.strokeRect(width - (this.passes.length - this.at.pass) * this.step, this.at.row * ROW_PX, Math.max(this.step, 3), ROW_PX);
    }
    put(this.from, this.passes.length ? clock(this.passes[0][1]) : " ");
    const ramp = paper(this.ramp);
    if (ramp) {
      for (let x = 0; x < ramp.width; x++) {
        ramp.context.fillStyle = heat((x / ramp.width) * MOST_SCORE);
        ramp.context.fillRect(x, 0, 1, ramp.height);
      }
    }
  }

  repaint() {
    this.paint();
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const pass = this.passes.length - Math.ceil((box.right - event.clientX) / this.step);
    this.show({ pass, row: Math.floor((event.clientY - box.top) / ROW_PX) });
  }

  key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[event.key];
    if (!move || !this.passes.length) return;
    event.preventDefault();
    const now = this.at ?? { pass: this.passes.length - 1 - move[0], row: -move[1] };
    this.show({
      pass: Math.min(Math.max(now.pass + move[0], 0), this.passes.length - 1),
      row: Math.min(Math.max(now.row + move[1], 0), this.order.length - 1),
    });
  }

  show(at) {
    const pass = at && this.passes[at.pass];
    const feature = at && this.order[at.row];
    this.at = pass && feature !== undefined ? at : null;
    if (this.at) {
      const score = pass[2] ? (pass[2][feature] / 100).toFixed(2) : "too few predictions to tell";
      put(this.readout, `${this.features[feature]} at ${clock(pass[1])}: ${score}`);
    } else put(this.readout, " ");
    this.paint();
  }

  closer(data) {
    const pass = data.pass;
    put(this.limit, pass.threshold === null ? "" : `drifted from ${pass.threshold} on`);
    put(
      this.summary,
      pass.enough
        ? `${percent(pass.drifted_share)} of the features have drifted, over ${pass.rows} predictions: ${pass.drifted ? "the data are no longer as the model knows them." : "too few to call the data as a whole drifted."}`
        : `Only ${pass.rows} predictions so far: too few to tell.`,
    );
    this.shapes.replaceChildren(...(data.top.length ? data.top.map(shape) : [h("p", { class: "muted" }, "Too few predictions to tell.")]));
    const target = pass.target;
    put(this.targetLine, target ? `Distance ${target.score.toFixed(2)}, drifted from ${target.threshold} on: ${target.drifted ? "another mix than in training." : "within what people's differing plans explain."} The dark mark is the reference.` : "Too few predictions to tell.");
    this.answers.replaceChildren(
      ...[...palette.keys()]
        .filter((label) => label in data.answers.current)
        .map((label) => {
          const is = data.answers.current[label];
          const was = data.answers.reference[label];
          return h(
            "div",
            { class: "answer", "data-label": label },
            h("span", { class: "chip" }, exercise(label)),
            h("span", { class: "track" }, h("i", { class: "is", style: { "--share": is } }), h("i", { class: "was", style: { "--share": was } })),
            h("span", { class: "num small" }, `${percent(is)} / ${percent(was)}`),
          );
        }),
    );
  }
}

function heat(score) {
  const at = Math.min(Math.max(score / MOST_SCORE, 0), 1) * (CIVIDIS.length - 1);
  const low = Math.min(Math.floor(at), CIVIDIS.length - 2);
  const mix = (i) => Math.round(parseInt(CIVIDIS[low].slice(i, i + 2), 16) * (1 - (at - low)) + parseInt(CIVIDIS[low + 1].slice(i, i + 2), 16) * (at - low));
  return `rgb(${mix(1)} ${mix(3)} ${mix(5)})`;
}

function shape({ name, score, edges, reference, current }) {
  const most = Math.max(...reference, ...current, 1e-9);
  const n = reference.length;
  const y = (share) => (100 - (share / most) * 92).toFixed(2);
  const steps = (shares) => shares.flatMap((s, i) => [`${i},${y(s)}`, `${i + 1},${y(s)}`]).join(" ");
  return h(
    "figure",
    { class: "shape" },
    h("h3", {}, h("span", {}, name), h("span", { class: "num" }, score.toFixed(2))),
    svg(
      "svg",
      { viewBox: `0 0 ${n} 100`, preserveAspectRatio: "none", role: "img", "aria-label": `${name}: distribution in the reference and now, distance ${score.toFixed(2)}` },
      svg("polygon", { class: "then", points: `0,100 ${steps(reference)} ${n},100` }),
      svg("polyline", { class: "live", points: `0,100 ${steps(current)} ${n},100` }),
    ),
    h("div", { class: "mix-axis num" }, h("span", {}, String(edges[0])), h("span", {}, String(edges.at(-1)))),
  );
}
