// Alarms in words: what, since when, what to do.

import { clock, h } from "./dom.js";

export function alarmList(alarms, now, empty) {
  const sorted = [...alarms].sort((a, b) => Number(isOver(a)) - Number(isOver(b)) || b.raised - a.raised);
  if (!sorted.length) return [h("p", { class: "muted" }, empty)];
  return sorted.slice(0, 30).map((alarm) => {
    const who = alarm.scope === "device" ? h("a", { href: `#/wearer/${encodeURIComponent(alarm.device)}` }, alarm.device) : "Everyone";
    const when = isOver(alarm) ? `over: ${clock(alarm.since)} to ${clock(alarm.ended)}` : `since ${clock(alarm.since)}`;
    return h(
      "article",
      { class: `alarm-card${isOver(alarm) ? " over" : ""}`, "data-cause": alarm.cause, "data-device": alarm.device },
      h("h3", {}, who, ` · ${alarm.cause.replaceAll("-", " ")}`),
      h("p", {}, alarm.text),
      isOver(alarm) ? null : h("p", {}, h("strong", {}, "What to do: "), alarm.advice),
      h("p", { class: "muted small num" }, `${when} · ${Math.round(alarm.certainty * 100)} % certain`),
    );
  });
}

export function isOver(alarm) {
  return alarm.ended !== null && alarm.ended !== undefined;
}

// Lists are made anew only where something changed, so that focus and screen readers stay where they are.
export function alarmKey(alarms) {
  return JSON.stringify(alarms.map((a) => [a.id, a.ended ?? null, a.text]));
}

