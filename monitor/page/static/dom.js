// Small helpers: elements, numbers in words, colours.

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, act] of Object.entries(value)) element.addEventListener(event, act);
    else if (name === "style") for (const [key, v] of Object.entries(value)) element.style.setProperty(key, v);
    else if (name in element && name !== "list" && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Text that changes is written only where it did: nothing is laid out anew for nothing.
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function number(n) {
  return n === null || n === undefined ? "–" : Math.round(n).toLocaleString("en-GB").replaceAll(",", " ");
}

export function percent(share) {
  return share === null || share === undefined ? "–" : `${Math.round(share * 100)} %`;
}

export function milliseconds(ms) {
  if (ms === null || ms === undefined) return "–";
  return ms < 1000 ? `${ms} ms` : `${(ms / 1000).toFixed(1)} s`;
}

export function span(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB");
}

export function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export const palette = new Map();

export async function loadPalette() {
  const answer = await fetch("palette.json");
  if (!answer.ok) throw new Error(await answer.text());
  for (const entry of await answer.json()) palette.set(entry.label, entry);
}

export function colour(label) {
  return palette.get(label)?.colour ?? "#8c8c8c";
}

export function exercise(label) {
  return capital(palette.get(label)?.name ?? label);
}

// Asked for with each picture, and the same until the colours change.
const colours = new Map();

export function css(name) {
  if (!colours.has(name)) colours.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim());
  return colours.get(name);
}

export function forgetColours() {
  colours.clear();
}

// A canvas with as many points as the screen has for it; returns null while it has no size.
export function paper(canvas, box = canvas.getBoundingClientRect()) {
  const scale = window.devicePixelRatio || 1;
  const width = Math.round(box.width * scale);
  const height = Math.round(box.height * scale);
  if (!width || !height) return null;
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, box.width, box.height);
  return { context, width: box.width, height: box.height };
}

export async function post(path, body, headers = {}) {
  return ask(path, { method: "POST", body, headers: { "X-Repstream": "1", Accept: "application/json", ...headers } });
}

export async function get(path) {
  return ask(path, { headers: { Accept: "application/json" } });
}

// What is not answered becomes an error in words, with all that was said as its answer.
async function ask(path, asked) {
  let answer;
  try {
    answer = await fetch(path, asked);
  } catch {
    throw new Error("the monitor does not answer; is it running?");
  }
  const text = await answer.text();
  let said = null;
  try {
    said = JSON.parse(text);
  } catch {
    said = { error: text };
  }
  if (!answer.ok) throw Object.assign(new Error(said.error || `the monitor answered ${answer.status}`), { answer: said });
  return said;
}
