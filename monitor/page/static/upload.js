// A recording of one's own: choose it, say what its columns mean, see it replayed.

import { h, number, post, put } from "./dom.js";

const NEEDED = ["time", "accel_x", "accel_y", "accel_z", "gyro_x", "gyro_y", "gyro_z"];
const NAMES = {
  time: "Time",
  accel_x: "Acceleration x",
  accel_y: "Acceleration y",
  accel_z: "Acceleration z",
  gyro_x: "Turning x",
  gyro_y: "Turning y",
  gyro_z: "Turning z",
  label: "Exercise (if there is one)",
};
const UNITS = {
  time_unit: ["Unit of time", { s: "seconds", ms: "milliseconds", us: "microseconds", ns: "nanoseconds" }],
  accel_unit: ["Unit of acceleration", { g: "g", "m/s2": "m/s²" }],
  gyro_unit: ["Unit of turning", { "deg/s": "°/s", "rad/s": "rad/s" }],
};
const SIDES = { unknown: "not known", left: "left", right: "right" };
const MOST_MB = 20;

export class Upload {
  title = "Your recording";
  query = "view=status";

  constructor(main, app) {
    this.app = app;
    this.input = h("input", { type: "file", accept: ".csv,.parquet", class: "sr", id: "file", tabindex: "-1", "aria-label": "A recording, CSV or Parquet", on: { change: () => this.take(this.input.files[0]) } });
    this.drop = h(
      "div",
      {
        class: "drop",
        on: {
          dragover: (event) => {
            event.preventDefault();
            this.drop.classList.add("over");
          },
          dragleave: () => this.drop.classList.remove("over"),
          drop: (event) => {
            event.preventDefault();
            this.drop.classList.remove("over");
            this.take(event.dataTransfer.files[0]);
          },
        },
      },
      h("strong", {}, "Drop a CSV or Parquet file here"),
      this.input,
      h("button", { type: "button", class: "main", on: { click: () => this.input.click() } }, "Choose a file"),
      h("p", { class: "muted" }, `One row a sample: a time, three accelerations, three angular rates. Up to ${MOST_MB} MB. It stays on the machine that the monitor runs on.`),
    );
    this.error = h("p", { class: "answer-line", role: "alert", "data-tone": "bad" }, " ");
    this.form = h("form", { class: "card stack", hidden: true, on: { submit: (event) => this.replay(event) } });
    main.append(h("div", { class: "head" }, h("h1", {}, "Your recording")), this.drop, this.error, this.form);
  }

  async take(file) {
    put(this.error, " ");
    if (!file) return;
    if (file.size > MOST_MB * 1e6) return put(this.error, `${file.name} has ${number(file.size / 1e6)} MB; up to ${MOST_MB} are taken here. Cut it, or replay it with: repstream produce`);
    put(this.error, " ");
    try {
      this.show(await post(`upload?name=${encodeURIComponent(file.name)}`, file, { "Content-Type": "application/octet-stream" }));
    } catch (error) {
      this.form.hidden = true;
      put(this.error, error.message);
    }
    this.input.value = "";
  }

  show(found) {
    this.found = found;
    this.selects = {};
    const choose = (key, name, options, chosen) => {
      this.selects[key] = h("select", { "data-key": key }, Object.entries(options).map(([value, text]) => h("option", { value, selected: value === chosen }, text)));
      return h("label", { class: "field" }, name, this.selects[key]);
    };
    const columns = { "": "–", ...Object.fromEntries(found.columns.map((c) => [c, c])) };
    this.submit = h("button", { type: "submit", class: "main" }, "Replay it");
    this.form.replaceChildren(
      h("h2", {}, `${found.name}: ${number(found.rows)} rows`),
      h(
        "div",
        { class: "table-wrap", tabindex: "0", role: "region", "aria-label": "The first rows" },
        h(
          "table",
          { class: "data" },
          h("thead", {}, h("tr", {}, found.columns.map((c) => h("th", { scope: "col" }, c)))),
          h("tbody", {}, found.head.map((row) => h("tr", {}, row.map((cell) => h("td", {}, cell))))),
        ),
      ),
      h(
        "section",
        { class: "form-part" },
        h("h2", {}, "Which column is which"),
        h("p", { class: "muted" }, "Guessed from names and numbers; put right what is wrong."),
        h("div", { class: "mapping" }, [...NEEDED, "label"].map((key) => choose(key, NAMES[key], columns, found.mapping[key] ?? ""))),
        h("div", { class: "mapping" }, Object.entries(UNITS).map(([key, [name, options]]) => choose(key, name, options, found.units[key])), choose("side", "Worn on the wrist", SIDES, "unknown")),
      ),
      h("div", { class: "row" }, this.submit),
    );
    this.form.hidden = false;
    this.form.scrollIntoView({ block: "nearest" });
    this.submit.focus({ preventScroll: true });
  }

  async replay(event) {
    event.preventDefault();
    put(this.error, " ");
    const value = (key) => this.selects[key].value;
    const missing = NEEDED.filter((key) => !value(key));
    if (missing.length) return put(this.error, `Choose a column for: ${missing.map((k) => NAMES[k].toLowerCase()).join(", ")}.`);
    const columns = Object.fromEntries([...NEEDED, "label"].filter((key) => value(key)).map((key) => [key, value(key)]));
    const body = { columns, time_unit: value("time_unit"), accel_unit: value("accel_unit"), gyro_unit: value("gyro_unit"), side: value("side") };
    this.submit.disabled = true;
    put(this.submit, "Starting …");
    try {
      const { device } = await post(`upload/${this.found.id}/replay`, JSON.stringify(body), { "Content-Type": "application/json" });
      this.app.go(`#/wearer/${encodeURIComponent(device)}`);
    } catch (error) {
      put(this.error, error.message);
      this.submit.disabled = false;
      put(this.submit, "Replay it");
    }
  }
}
