// Recordings of one's own: choose files, see what they are worth and what was repaired, see them replayed.

import { get, h, number, post, put } from "./dom.js";

const AXES = {
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
  time_unit: ["Unit of time", { "": "told by its steps", s: "seconds", ms: "milliseconds", us: "microseconds", ns: "nanoseconds" }],
  gyro_unit: ["Unit of turning", { "": "told by gravity", "deg/s": "°/s", "rad/s": "rad/s", "mdeg/s": "m°/s" }],
};
const SIDES = { "": "as the files say", left: "left", right: "right" };
const ENDINGS = ".zip,.csv,.tsv,.txt,.json,.parquet,.mat,.toml";
const MOST_MB = 20;
// So many pictures are drawn without being asked for.
const SHOWN_PICTURES = 3;

export class Upload {
  title = "Your recording";
  query = "view=status";

  constructor(main, app) {
    this.app = app;
    this.input = h("input", { type: "file", multiple: true, accept: ENDINGS, class: "sr", id: "file", tabindex: "-1", "aria-label": "Recordings", on: { change: () => this.take(this.input.files) } });
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
            this.take(event.dataTransfer.files);
          },
        },
      },
      h("strong", {}, "Drop a recording here"),
      this.input,
      h("button", { type: "button", class: "main", on: { click: () => this.input.click() } }, "Choose files"),
      h(
        "p",
        { class: "muted" },
        "An app's export as it is (Sensor Logger, phyphox, MetaMotion), a zip of several, or any table of three accelerations and three angular rates ",
        `(CSV, Parquet). Up to ${MOST_MB} MB. It stays on the machine that the monitor runs on.`,
      ),
    );
    this.error = h("p", { class: "answer-line", role: "alert", "data-tone": "bad" }, " ");
    this.status = h("p", { class: "muted", role: "status" }, "");
    this.found = h("section", { class: "stack", "aria-label": "Recordings found", hidden: true });
    this.form = h("form", { class: "card stack", hidden: true, "aria-label": "How the files are meant", on: { submit: (event) => this.again(event) } });
    main.append(h("div", { class: "head" }, h("h1", {}, "Your recording")), this.drop, h("div", {}, this.error, this.status), this.found, this.form);
  }

  // Several files are one upload, as those of two sensors, or tables with their mapping file.
  async take(list) {
    const files = Array.from(list);
    this.input.value = "";
    if (!files.length) return;
    const size = files.reduce((sum, file) => sum + file.size, 0);
    this.name = files.length === 1 ? files[0].name : `${files.length} files`;
    if (size > MOST_MB * 1e6) return this.fail(`${this.name}: ${number(size / 1e6)} MB; up to ${MOST_MB} are taken here. Import it with: repstream recordings import`);
    this.id = "";
    this.asked = null;
    this.form.hidden = true;
    await this.busy(`Reading ${this.name} …`, async () => this.show(await this.send(files)));
  }

  async send(files) {
    let answer = null;
    for (const [i, file] of files.entries()) {
      const place = new URLSearchParams({ name: file.name });
      if (this.id) place.set("to", this.id);
      if (i + 1 < files.length) place.set("more", "1");
      answer = await post(`upload?${place}`, file, { "Content-Type": "application/octet-stream" });
      this.id = answer.id;
    }
    return answer;
  }

  // While something goes on, no button does anything; what fails is told, and asked about where that helps.
  async busy(text, act) {
    put(this.error, " ");
    put(this.status, text);
    this.disable(true);
    try {
      return await act();
    } catch (error) {
      if (error.answer?.id) this.show(error.answer);
      else if (!this.asked) this.found.hidden = true;
      const many = error.answer?.failed?.length > 1;
      this.fail(many ? `None of ${number(error.answer.failed.length)} recordings could be imported; each says why below.` : error.message);
      return null;
    } finally {
      if (this.status.textContent === text) put(this.status, "");
      this.disable(false);
    }
  }

  fail(text) {
    put(this.status, "");
    put(this.error, text);
  }

  disable(isBusy) {
    for (const part of [this.drop, this.found, this.form]) for (const button of part.querySelectorAll("button")) button.disabled = isBusy;
  }

  show(answer) {
    this.id = answer.id;
    this.recordings = answer.recordings;
    const n = answer.recordings.length;
    const heading = h("h2", { tabindex: "-1" }, `${this.name}: ${n === 1 ? "1 recording" : `${number(n)} recordings`}`);
    const all = h("button", { type: "button", class: "main", hidden: n < 2, on: { click: () => this.replay([]) } }, `Replay all ${number(n)}`);
    const failed = h("div", { class: "card", hidden: n + answer.failed.length < 2 || !answer.failed.length }, h("h2", {}, "Not imported"), h("ul", { class: "notes" }, answer.failed.map((text) => h("li", { "data-tone": "bad" }, text))));
    const list = h("ul", { class: "recordings" }, answer.recordings.map((recording, i) => this.card(recording, i)));
    this.found.replaceChildren(...(n ? [h("div", { class: "head" }, heading, all), list] : []), failed);
    this.found.hidden = false;
    if (!this.asked) this.ask(answer);
    this.asked = JSON.stringify(this.choices());
    if (n) {
      put(this.status, "");
      heading.focus({ preventScroll: true });
      this.found.scrollIntoView({ block: "nearest" });
    }
  }

  card(r, i) {
    const windows = Object.entries(r.windows).map(([label, n]) => `${label} ${n}`).join(", ");
    const facts = [`${r.seconds.toFixed(1)} s at ${r.rate_hz} Hz`, `jitter ${r.jitter_ms} ms`, `${r.gravity_g} g at rest on ${r.gravity_axis.replace("accel_", "").replace("-", "−")}`];
    if (r.subject !== "unknown") facts.unshift(r.subject);
    if (r.side !== "unknown") facts.push(`worn ${r.side}`);
    const notes = [
      ...r.remarks.map((text) => ["bad", text]),
      ...(r.copies.length ? [["bad", `The same movement as ${r.copies.join(", ")}.`]] : []),
      ...r.warnings.map((text) => ["warn", text]),
      ...(r.repairs.length ? [["", `Repaired: ${r.repairs.join("; ")}.`]] : []),
    ];
    const picture = h("details", { class: "picture", on: { toggle: () => picture.open && this.draw(picture, i) } }, h("summary", {}, "Picture"));
    picture.open = i < SHOWN_PICTURES;
    return h(
      "li",
      { class: "card recording" },
      h("div", { class: "head" }, h("h3", {}, r.session), h("button", { type: "button", class: this.recordings.length === 1 ? "main" : "", "aria-label": `Replay it: ${r.session}`, on: { click: () => this.replay([i]) } }, "Replay it")),
      h("p", { class: "muted" }, facts.join(" · ")),
      h("p", {}, windows ? `Whole windows: ${windows}` : "No whole window: too short, or full of holes."),
      notes.length > 0 && h("ul", { class: "notes" }, notes.map(([tone, text]) => h("li", { "data-tone": tone }, text))),
      picture,
    );
  }

  async draw(picture, i) {
    if (picture.dataset.drawn) return;
    picture.dataset.drawn = "1";
    try {
      const plots = await get(`upload/${this.id}/${i}`);
      const drawn = plots.map((text) => new DOMParser().parseFromString(text, "text/html").querySelector("svg"));
      picture.append(h("div", { class: "table-wrap", tabindex: "0", role: "region", "aria-label": `Picture of ${this.recordings[i].session}` }, drawn));
    } catch (error) {
      picture.append(h("p", { class: "muted" }, error.message));
    }
  }

  // What nobody can know but whoever was there.
  ask(answer) {
    this.selects = {};
    this.map = h("input", { type: "file", accept: ".toml" });
    const choose = (key, name, options, chosen) => {
      this.selects[key] = h("select", { "data-key": key }, Object.entries(options).map(([value, text]) => h("option", { value, selected: value === chosen }, text)));
      return h("label", { class: "field" }, name, this.selects[key]);
    };
    const write = (key, name, type = "text") => {
      const more = type === "number" ? { min: "1", max: "1000", step: "any" } : { placeholder: "as the files say" };
      this.selects[key] = h("input", { type, "data-key": key, autocomplete: "off", ...more });
      return h("label", { class: "field" }, name, this.selects[key]);
    };
    this.form.replaceChildren(
      h("h2", {}, "What the files do not say"),
      h("div", { class: "mapping" }, choose("side", "Worn on the wrist", SIDES, ""), write("subject", "Who"), write("label", "Exercise, all the time"), h("label", { class: "field" }, "Mapping file, for other tables", this.map)),
      ...(answer.table.columns ? [this.columns(answer.table, !answer.recordings.length, choose, write)] : []),
      h("div", { class: "row" }, h("button", { type: "submit" }, "Read again")),
    );
    this.form.hidden = false;
  }

  columns(table, isOpen, choose, write) {
    const columns = { "": "–", ...Object.fromEntries(table.columns.map((c) => [c, c])) };
    this.guessed = table.mapping;
    const part = h(
      "details",
      { class: "form-part" },
      h("summary", {}, `Columns of ${table.file}`),
      h(
        "div",
        { class: "table-wrap", tabindex: "0", role: "region", "aria-label": "The first rows" },
        h(
          "table",
          { class: "data" },
          h("thead", {}, h("tr", {}, table.columns.map((c) => h("th", { scope: "col" }, c)))),
          h("tbody", {}, table.head.map((row) => h("tr", {}, row.map((cell) => h("td", {}, cell))))),
        ),
      ),
      h("p", { class: "muted" }, "Guessed from names; put right what is wrong."),
      h("div", { class: "mapping" }, Object.entries(AXES).map(([key, name]) => choose(`column-${key}`, name, columns, table.mapping[key] ?? ""))),
      h("div", { class: "mapping" }, Object.entries(UNITS).map(([key, [name, options]]) => choose(key, name, options, "")), write("rate_hz", "Samples per second, where no column is a time", "number")),
    );
    part.open = isOpen;
    return part;
  }

  choices() {
    const value = (key) => this.selects[key]?.value.trim() ?? "";
    const chosen = { side: value("side"), subject: value("subject"), label: value("label"), time_unit: value("time_unit"), gyro_unit: value("gyro_unit") };
    if (value("rate_hz")) chosen.rate_hz = Number(value("rate_hz"));
    const columns = Object.fromEntries(Object.keys(AXES).map((key) => [key, value(`column-${key}`)]));
    const isGuess = Object.entries(columns).every(([key, name]) => name === (this.guessed?.[key] ?? ""));
    if (this.selects["column-time"] && !isGuess) chosen.columns = Object.fromEntries(Object.entries(columns).filter(([, name]) => name));
    return chosen;
  }

  async again(event) {
    event.preventDefault();
    await this.busy("Reading again …", () => this.load());
  }

  async load() {
    const asked = JSON.stringify(this.choices());
    for (const file of this.map.files) await post(`upload?${new URLSearchParams({ name: file.name, to: this.id, more: "1" })}`, file, { "Content-Type": "application/octet-stream" });
    this.show(await post(`upload/${this.id}/import`, asked, { "Content-Type": "application/json" }));
  }

  async replay(numbers) {
    await this.busy("Starting …", async () => {
      const before = this.recordings.length;
      if (this.asked !== JSON.stringify(this.choices()) || this.map.files.length) await this.load();
      if (this.recordings.length !== before) return;
      const { devices } = await post(`upload/${this.id}/replay`, JSON.stringify({ recordings: numbers }), { "Content-Type": "application/json" });
      this.app.go(devices.length === 1 ? `#/wearer/${encodeURIComponent(devices[0])}` : "#/everyone");
    });
  }
}
