// A wearer's tile: what it does, how sure the model is, and how that went.

import { colour, css, exercise, h, paper, percent, put } from "./dom.js";

const SPARK = 48;

export function newTile(device) {
  const tile = { device, n: 0, spark: [], isVisible: false, isStale: true, labelled: -1, truth: null, seenS: 0 };
  tile.what = h("strong", {});
  tile.confidence = h("span", { class: "num" });
  tile.alarm = h("span", { class: "alarm" });
  tile.right = h("span", {});
  tile.canvas = h("canvas", { "aria-hidden": "true" });
  tile.item = h(
    "li",
    { class: "tile", "data-device": device },
    h(
      "a",
      { href: `#/wearer/${encodeURIComponent(device)}` },
      h("span", { class: "who" }, h("span", {}, device), tile.alarm),
      h("span", { class: "what" }, tile.what, tile.confidence),
      tile.canvas,
      h("span", { class: "foot-line" }, tile.right),
    ),
  );
  return tile;
}

// Whether anything on it is new.
export function updateTile(tile, [, n, label, confidence, truth, right, labelled, seenS, spark]) {
  const fresh = Math.min(n - tile.n, spark.length / 2);
  if (fresh <= 0 && n === tile.n && truth === tile.truth && labelled === tile.labelled) return false;
  for (let i = spark.length / 2 - Math.max(fresh, 0); i < spark.length / 2; i++) tile.spark.push([spark[2 * i], spark[2 * i + 1]]);
  if (tile.spark.length > SPARK) tile.spark.splice(0, tile.spark.length - SPARK);
  Object.assign(tile, { n, label, truth, labelled, seenS, isStale: true });
  tile.item.dataset.label = label;
  delete tile.item.dataset.quiet;
  put(tile.what, exercise(label));
  put(tile.confidence, percent(confidence));
  put(tile.right, labelled ? `${percent(right / labelled)} right so far` : "label not known yet");
  return true;
}

// All are measured before any is painted: the page is laid out once, not once a tile.
export function paintSparks(tiles) {
  const boxes = tiles.map((tile) => tile.canvas.getBoundingClientRect());
  tiles.forEach((tile, i) => paintSpark(tile, boxes[i]));
}

function paintSpark(tile, box) {
  tile.isStale = false;
  const sheet = paper(tile.canvas, box);
  if (!sheet) return;
  const { context, width, height } = sheet;
  const step = width / SPARK;
  context.fillStyle = css("--soft");
  context.fillRect(0, height - 1, width, 1);
  tile.spark.forEach(([label, confidence], i) => {
    const x = width - (tile.spark.length - i) * step;
    const bar = Math.max((confidence / 100) * (height - 1), 1);
    context.fillStyle = colour(label);
    context.fillRect(x, height - bar, Math.max(step - 1, 1), bar);
  });
}
