// The frame around the views: which one is shown, how things stand in a sentence, alarms, colours.

import { forgetColours, loadPalette, milliseconds, number, put, span } from "./dom.js";
import { Stream } from "./stream.js";
import { BreakIt } from "./break.js";
import { Drift } from "./drift.js";
import { Everyone } from "./everyone.js";
import { Upload } from "./upload.js";
import { WearerView } from "./wearer.js";

const QUIET_S = 5;

const main = document.getElementById("main");
const state = document.getElementById("state");
const stateText = document.getElementById("state-text");
const announce = document.getElementById("announce");
const alarmCount = document.getElementById("alarm-count");

const views = { everyone: Everyone, wearer: WearerView, drift: Drift, break: BreakIt, upload: Upload };
const app = { status: null, wearers: [], go: (hash) => (location.hash = hash) };
let view = null;
let viewName = "";
let knownAlarms = null;
let wasTone = "";

const stream = new Stream(
  (name, data) => {
    if (name === "status") return onStatus(data);
    if (name === "everyone") app.wearers = Array.from(new Set([...app.wearers, ...data.wearers.map((w) => w[0])])).sort();
    view?.on?.(name, data);
  },
  (lostS) => {
    if (lostS !== null && lostS > 1) say("bad", `The monitor does not answer for ${span(lostS)}. Trying again by itself …`);
  },
);

function onStatus(status) {
  if (app.status && app.status.started !== status.started) app.wearers = [];
  app.status = status;
  const [tone, text] = sentence(status);
  say(tone, text);
  put(document.getElementById("foot-model"), `Model ${status.model}`);
  onAlarms(status.alarms);
  view?.on?.("status", status);
}

// How things stand, the most serious first.
function sentence(s) {
  const paused = s.producers.length > 0 && s.producers.every((p) => p.paused);
  const silent = s.silent_s ?? (s.packets_s > 0 ? 0 : s.quiet_s);
  if (s.trouble === "starting") return ["wait", "The monitor is starting …"];
  if (s.trouble) return ["bad", `Kafka is away: ${s.trouble}. Trying again by itself …`];
  if (paused) return ["warn", "Paused: the replay waits until it is resumed."];
  if (!s.wearers && !(silent !== null && silent < QUIET_S)) return ["wait", "No wearers yet: waiting for the first packets."];
  if (!s.wearers) return ["wait", "Packets come in; a wearer's first prediction takes three seconds of movement."];
  if (silent !== null && silent >= QUIET_S) return ["bad", `No data for ${span(silent)}: the producer has stopped.`];
  if (s.quiet_s !== null && s.quiet_s >= QUIET_S && s.predictions_s > 0) return ["warn", `Catching up: answers are ${span(s.quiet_s)} behind, ${number(s.lag)} packets wait.`];
  if (s.quiet_s !== null && s.quiet_s >= QUIET_S && s.lag) {
    return ["bad", `No predictions for ${span(s.quiet_s)}: the predictor has stopped; ${number(s.lag)} packets wait.`];
  }
  const people = s.wearers === 1 ? "1 wearer" : `${number(s.wearers)} wearers`;
  if (s.behind_s) return ["good", `Live: ${people}; a recording replayed at its own pace, event time ${span(s.behind_s)} behind the clock.`];
  const late = s.latency_ms ? `, recognised within ${milliseconds(s.latency_ms.p50)}` : "";
  return ["good", `Live: ${people}, ${number(s.packets_s)} packets per second${late}.`];
}

function say(tone, text) {
  state.dataset.tone = tone;
  put(stateText, text);
  // A screen reader hears what changed, not every second.
  if (tone !== wasTone) {
    wasTone = tone;
    announce.textContent = text;
  }
}

function onAlarms(alarms) {
  const open = alarms.filter((a) => a.ended === null || a.ended === undefined);
  alarmCount.hidden = !open.length;
  put(alarmCount, String(open.length));
  alarmCount.setAttribute("aria-label", `${open.length} open alarm${open.length === 1 ? "" : "s"}`);
  const ids = new Set(open.map((a) => a.id));
  if (knownAlarms) {
    const begun = open.filter((a) => !knownAlarms.has(a.id));
    if (begun.length) announce.textContent = `Alarm: ${begun.map((a) => a.text).join(" ")}`;
    else if ([...knownAlarms].some((id) => !ids.has(id))) announce.textContent = "An alarm is over.";
  }
  knownAlarms = ids;
}

function route() {
  const [, name = "", rest = ""] = location.hash.match(/^#\/([a-z]*)\/?(.*)$/) ?? [];
  if (location.hash === "#main") return;
  const wanted = views[name] ? name : "everyone";
  const argument = decodeURIComponent(rest);
  if (wanted === viewName && view?.argument === argument) return;
  view?.close?.();
  const moved = viewName !== "";
  viewName = wanted;
  main.replaceChildren();
  view = new views[wanted](main, app, argument);
  view.argument = argument;
  for (const link of document.querySelectorAll(".tabs a")) {
    if (link.dataset.view === wanted) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${view.title} – Repstream`;
  stream.open(view.query);
  if (app.status) view.on?.("status", app.status);
  if (moved) {
    window.scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
}

function themes() {
  const button = document.getElementById("theme");
  const order = ["system", "light", "dark"];
  const words = { system: "as the system has them", light: "light", dark: "dark" };
  const signs = { system: "◐", light: "☀", dark: "☾" };
  const show = () => {
    const now = document.documentElement.dataset.theme ?? "system";
    button.textContent = signs[now];
    button.setAttribute("aria-label", `Colours: ${words[now]}`);
    button.title = button.getAttribute("aria-label");
    forgetColours();
    view?.repaint?.();
  };
  button.addEventListener("click", () => {
    const now = document.documentElement.dataset.theme ?? "system";
    const next = order[(order.indexOf(now) + 1) % order.length];
    if (next === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    try {
      localStorage.setItem("repstream-theme", next);
    } catch {
      // Not kept, then; it still holds for this visit.
    }
    show();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  show();
}

async function start() {
  try {
    await loadPalette();
  } catch (error) {
    say("bad", `The monitor does not answer (${error.message}). Trying again by itself …`);
    setTimeout(start, 2000);
    return;
  }
  addEventListener("hashchange", route);
  route();
  themes();
}

start();

