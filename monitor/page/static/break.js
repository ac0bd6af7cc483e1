// Break it: pause, speed, and faults on a wearer of the demo's replay, and the alarms that come of it.

import { alarmKey, alarmList } from "./alarms.js";
import { h, post, put } from "./dom.js";
import { newTile, paintSparks, updateTile } from "./tile.js";

const FAULTS = [
  ["rotate:90", "Turn the sensor", "It sits turned by 90° on the wrist."],
  ["swap-wrist", "Other wrist", "Worn right, said to be left."],
  ["units:accel", "Wrong units", "m/s² are sent for g."],
  ["drop:0.3", "Lose packets", "Three in ten never arrive."],
  ["stuck:gyro", "Freeze the gyroscope", "It repeats its last reading."],
  ["noise:60,gyro", "Shake it", "60 °/s of noise on the gyroscope."],
  ["rate:25", "Wrong clock", "Half as many samples: all looks twice as fast."],
  ["new-exercise:PEN", "Another exercise", "Pendulum is done instead; unknown to a model trained without it."],
];
const SPEEDS = [0.5, 1, 2, 4, 8];
const SPANS = { 30: "30 s", 60: "1 min", 120: "2 min", 300: "5 min" };
// So far behind the clock a replay has something to catch up with, s.
const BEHIND_S = 2;

export class BreakIt {
  title = "Break it";
  query = "view=everyone";

  constructor(main, app) {
    this.app = app;
    this.none = h(
      "div",
      { class: "card empty" },
      h("strong", {}, "Nothing here can be broken"),
      h("p", {}, "Only a replay that says it may be controlled can be; real wearers cannot. The demo's is one, or:"),
      h("code", {}, "repstream produce 'spar/s08-*' --loop --controllable"),
    );
    this.pause = h("button", { type: "button", class: "main", on: { click: () => this.command({ action: this.status?.paused ? "resume" : "pause" }) } }, "Pause");
    this.speeds = SPEEDS.map((speed) => h("button", { type: "button", "aria-pressed": "false", on: { click: () => this.command({ action: "speed", speed }) } }, `${speed} ×`));
    this.speedNote = h("p", { class: "muted small speed" }, " ");
    this.wearer = h("select", { id: "break-wearer" });
    this.length = h("select", { id: "break-span" }, Object.entries(SPANS).map(([s, text]) => h("option", { value: s, selected: s === "60" }, text)));
    this.faults = FAULTS.map(([fault, name, text]) =>
      h("button", { type: "button", "data-fault": fault, on: { click: () => this.inject(fault) } }, h("strong", {}, name), h("span", {}, text)),
    );
    this.clear = h("button", { type: "button", on: { click: () => this.command({ action: "clear" }) } }, "End all faults");
    this.answer = h("p", { class: "answer-line", role: "status" }, " ");
    this.active = h("ul", { class: "num" });
    this.alarms = h("div", { class: "alarms", tabindex: "0", role: "region", "aria-label": "List of alarms" });
    this.rows = new Map();
    this.watch = h("ul", { class: "tiles" });
    this.wearer.addEventListener("change", () => this.choose());
    this.controls = h(
      "div",
      { class: "wide-narrow", hidden: true },
      h(
        "div",
        { class: "card stack" },
        h("section", {}, h("h2", {}, "Put a fault in"), h("div", { class: "row end" }, h("label", { class: "field" }, "On", this.wearer), h("label", { class: "field" }, "For", this.length), this.clear), this.answer, h("div", { class: "faults" }, this.faults)),
        h("section", {}, h("h2", {}, "The replay"), h("div", { class: "row", role: "group", "aria-label": "Pause and speed" }, this.pause, this.speeds), this.speedNote),
      ),
      h(
        "div",
        { class: "card stack" },
        h("section", {}, h("h2", {}, "What it does"), this.watch),
        h("section", {}, h("h2", {}, "Faults now"), this.active),
        h("section", {}, h("h2", {}, "Alarms"), this.alarms),
      ),
    );
    main.append(
      h("div", { class: "head" }, h("h1", {}, "Break it")),
      h("p", { class: "muted" }, "Put a fault in and see how the answers, the drift and the alarms take it, and how it passes."),
      this.none,
      this.controls,
    );
  }

  on(name, data) {
    if (name === "everyone") {
      for (const row of data.wearers) {
        this.rows.set(row[0], row);
        if (this.tile && row[0] === this.tile.device && updateTile(this.tile, row)) paintSparks([this.tile]);
      }
      return this.names();
    }
    if (name !== "status") return;
    this.status = data.producers[0] ?? null;
    this.none.hidden = Boolean(this.status);
    this.controls.hidden = !this.status;
    const key = alarmKey(data.alarms);
    if (key !== this.alarmKey) {
      this.alarmKey = key;
      this.alarms.replaceChildren(...alarmList(data.alarms, data.t, "None yet. One takes some ten seconds to come, and to go."));
    }
    if (!this.status) return;
    const { paused, speed, at, event_at: eventAt, faults } = this.status;
    put(this.pause, paused ? "Resume" : "Pause");
    const behind = data.t - (eventAt + (paused ? 0 : (data.t - at) * speed));
    SPEEDS.forEach((s, i) => {
      this.speeds[i].setAttribute("aria-pressed", String(s === speed));
      this.speeds[i].disabled = s > 1 && s !== speed && behind < BEHIND_S;
    });
    put(this.speedNote, behind < BEHIND_S ? "It is live: nothing can be faster than the clock. Pause, and it has something to catch up with." : `It is ${Math.round(behind)} s behind the clock, and can be faster until it has caught up.`);
    const text = JSON.stringify(faults);
    if (text !== this.faultText) {
      this.faultText = text;
      this.active.replaceChildren(...(faults.length ? faults.map((f) => h("li", {}, h("code", {}, f))) : [h("li", { class: "muted" }, "None.")]));
      this.clear.disabled = !faults.length;
    }
    this.names();
  }

  names() {
    const names = this.app.wearers;
    if (names.length === this.wearer.options.length) return;
    const was = this.wearer.value;
    this.wearer.replaceChildren(...names.map((n) => h("option", { value: n }, n)));
    if (names.includes(was)) this.wearer.value = was;
    this.choose();
  }

  choose() {
    const device = this.wearer.value;
    if (!device || this.tile?.device === device) return;
    this.tile = newTile(device);
    this.watch.replaceChildren(this.tile.item);
    if (this.rows.has(device) && updateTile(this.tile, this.rows.get(device))) paintSparks([this.tile]);
  }

  repaint() {
    if (this.tile) paintSparks([this.tile]);
  }

  inject(fault) {
    if (!this.wearer.value) return this.say("bad", "There is no wearer yet.");
    return this.command({ action: "inject", fault, device: this.wearer.value, seconds: Number(this.length.value) });
  }

  say(tone, text) {
    this.answer.dataset.tone = tone;
    put(this.answer, text);
  }

  async command(command) {
    if (!this.status) return;
    this.say("", "Asking the replay …");
    try {
      const { id } = await post("control", JSON.stringify({ producer: this.status.producer, ...command }), { "Content-Type": "application/json" });
      await this.follow(id, command);
    } catch (error) {
      this.say("bad", `${error.message}`);
    }
  }

  async follow(id, command) {
    for (let i = 0; i < 20; i++) {
      await new Promise((done) => setTimeout(done, 250));
      const answer = await (await fetch(`control/${id}`)).json();
      if (!answer.answered) continue;
      if (answer.refused) this.say("bad", `The replay refuses: ${answer.refused}`);
      else this.say("good", command.action === "inject" ? `${command.fault} is on ${command.device} now.` : "Done.");
      return;
    }
    this.say("bad", "The replay does not answer; has it ended?");
  }
}
