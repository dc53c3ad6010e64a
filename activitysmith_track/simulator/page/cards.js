// The Lock Screen: what each type of Live Activity looks like, pushes, widgets and the Dynamic Island.

import { h, s } from "./dom.js";
import { symbol } from "./symbols.js";
import { ago, asClock, asSpan, now, reading } from "./time.js";

const COLORS = new Set("lime green cyan blue purple magenta red orange yellow gray".split(" "));
const tint = (color, fallback = "blue") => (COLORS.has(color) ? color : fallback);
const number = (value) => (typeof value === "number" ? value.toLocaleString("en", { maximumFractionDigits: 2 }) : value);

/** The percentage of a progress, 0 to 100. */
export function percentage(state) {
  if (typeof state.percentage === "number") return state.percentage;
  return state.upper_limit ? Math.min(100, Math.max(0, (100 * state.value) / state.upper_limit)) : 0;
}

const whole = (state) => `${Math.round(percentage(state))} %`;

function bar(part, color, label) {
  return h("div", { class: `track tint-${color}`, role: "progressbar", "aria-label": label, "aria-valuemin": 0,
    "aria-valuemax": 100, "aria-valuenow": Math.round(part) },
    h("div", { class: "fill", style: { width: `${part}%` } }));
}

function segments(state) {
  const count = Math.max(1, state.number_of_steps ?? 1);
  const current = Math.min(state.current_step ?? 0, count);
  const accent = tint(state.color);
  const drawn = Math.min(count, 60); // more than that no screen can tell apart
  const latest = Math.floor(((current - 1) * drawn) / count);
  const cells = Array.from({ length: drawn }, (_, index) => {
    const step = Math.floor((index * count) / drawn);
    if (step >= current) return h("span", { class: "segment" });
    const color = index === latest && state.step_color ? state.step_color : state.step_colors?.[step];
    return h("span", { class: `segment on tint-${tint(color, accent)}` });
  });
  return h("div", { class: "segments", role: "img", "aria-label": `Step ${current} of ${count}` }, cells);
}

function ticking(timer, at, extra = {}) {
  return h("span", { "data-timer": JSON.stringify({ ...timer, at }), ...extra }, asClock(reading(timer, at)));
}

const bodies = {
  progress: (state) => [
    h("div", { class: "line" },
      bar(percentage(state), tint(state.color), state.title),
      h("span", { class: `figure text-${tint(state.color)}` }, whole(state))),
    state.upper_limit ? h("p", { class: "small" }, `${number(state.value)} of ${number(state.upper_limit)}`) : null,
  ],
  segmented_progress: (state) => [
    h("div", { class: "line" }, segments(state),
      h("span", { class: "figure small" }, `${state.current_step ?? 0}/${state.number_of_steps ?? 1}`)),
  ],
  metrics: (state) => h("div", { class: "metrics" }, (state.metrics ?? []).map((metric) => {
    const color = tint(metric.color, tint(state.color));
    const level = typeof metric.value === "number" ? Math.min(100, metric.value) : null;
    return h("div", { class: "metric" },
      h("p", { class: "line" }, h("span", { class: "small" }, metric.label),
        h("span", { class: `figure text-${color}` }, number(metric.value), metric.unit ? ` ${metric.unit}` : "")),
      level === null ? null : h("div", { class: "ticks", "aria-hidden": "true" },
        Array.from({ length: 20 }, (_, index) =>
          h("span", { class: index < Math.round(level / 5) ? `tick on tint-${color}` : "tick" }))));
  })),
  stats: (state) => h("div", { class: "stats" }, (state.metrics ?? []).map((metric) =>
    h("div", { class: "stat" }, h("p", { class: "small" }, metric.label),
      h("p", { class: `figure text-${tint(metric.color, "plain")}` }, number(metric.value),
        metric.unit ? ` ${metric.unit}` : "")))),
  alert: (state) => h("p", { class: "message" }, state.message),
  value: (state) => h("p", { class: `value text-${tint(state.color)}` }, number(state.value)),
  timer: (state, card, at) => [
    h("div", { class: "line" },
      ticking(card.timer, at, { class: `value text-${tint(state.color)}`, role: "timer" }),
      card.timer.running || card.ended ? null : h("span", { class: "small" }, "paused")),
    card.timer.duration === null ? null : h("div", { class: `track tint-${tint(state.color)}`, "aria-hidden": "true" },
      h("div", { class: "fill", "data-window": JSON.stringify({ ...card.timer, at }),
        style: { width: `${share(card.timer, at)}%` } })),
  ],
};

/** The part of a timer's window that has passed, in percent. */
export function share(timer, at) {
  const shown = reading(timer, at);
  const elapsed = timer.counts_down ? timer.duration - shown : shown;
  return Math.min(100, Math.max(0, (100 * elapsed) / timer.duration));
}

/** A button of a card or a push: a link where a browser can open it, else something to press. */
function button(action, id, name, color) {
  const attributes = { class: `action tint-${tint(color)}`, "data-tap": name, "data-id": id, "data-key": name };
  const isWeb = action.type === "open_url" && /^https?:\/\//i.test(action.url);
  if (isWeb) {
    return h("a", { ...attributes, href: action.url, target: "_blank", rel: "noopener noreferrer" }, action.title);
  }
  const hint = action.type === "webhook" ? `webhook ${action.method ?? "POST"} ${action.url}` : action.url;
  return h("button", { ...attributes, type: "button", title: hint }, action.title);
}

function annotations(card) {
  const notes = [];
  if (card.throttled_until !== null && card.throttled_until > now()) {
    notes.push(h("p", { class: "note" }, `Throttled by iOS: ${card.dropped} update${card.dropped === 1 ? "" : "s"} not shown, `,
      h("span", { "data-until": card.throttled_until }, `again in ${asSpan(card.throttled_until - now())}`)));
  } else if (card.stale) {
    notes.push(h("p", { class: "note" }, "Older than what was sent last."));
  }
  if (card.ended) {
    const why = { system: "Ended by iOS after 8 hours", room: "Ended to make room" }[card.ended_by] ?? "Ended";
    notes.push(h("p", { class: "quiet" }, `${why}, `,
      h("span", { "data-until": card.leaves_at, "data-words": "leaves in" }, `leaves in ${asSpan(card.leaves_at - now())}`)));
  }
  return notes;
}

/** A Live Activity as iOS draws it. */
export function drawCard(card, at) {
  const state = card.shown;
  const draw = Object.hasOwn(bodies, state.type) ? bodies[state.type] : () => null;
  const color = tint(state.color, state.type === "stats" ? "plain" : "blue");
  const classes = ["card", `type-${state.type}`, card.ended ? "ended" : "", card.stale ? "stale" : ""];
  return h("article", { class: classes.join(" ").trim(), "data-key": card.id, "data-id": card.id,
    "data-color": color, "aria-label": `${state.title}, Live Activity` },
    h("div", { class: "head" },
      state.icon ? symbol(state.icon, tint(state.color)) : null,
      h("div", { class: "titles" }, h("h3", {}, state.title), state.subtitle ? h("p", { class: "small" }, state.subtitle) : null),
      state.badge ? h("span", { class: `badge tint-${tint(state.badge.color, color === "plain" ? "blue" : color)}` },
        state.badge.title) : null,
      h("button", { type: "button", class: "swipe", "data-dismiss": card.id, "aria-label": `Swipe ${state.title} away` }, "×")),
    draw(state, card, at),
    card.action || card.secondary_action ? h("div", { class: "actions" },
      card.action ? button(card.action, card.id, "action", state.color) : null,
      card.secondary_action ? button(card.secondary_action, card.id, "secondary_action", state.color) : null) : null,
    annotations(card));
}

/** The Dynamic Island: the newest running card in a few characters, and more of it when it is pressed. */
export function drawIsland(cards, at, expanded) {
  const card = cards.filter((each) => !each.ended).at(-1);
  if (!card) return h("div", { class: "island", "data-key": "none" });
  const state = card.shown;
  const figure = {
    progress: () => whole(state),
    segmented_progress: () => `${state.current_step ?? 0}/${state.number_of_steps ?? 1}`,
    timer: () => ticking(card.timer, at),
    value: () => number(state.value),
    metrics: () => number(state.metrics?.[0]?.value),
    stats: () => number(state.metrics?.[0]?.value),
    alert: () => "!",
  }[state.type]?.();
  return h("button", { type: "button", class: "island live", "data-key": "live", "data-island": true,
    "aria-expanded": String(expanded), "aria-label": `Dynamic Island: ${state.title}` },
    symbol(state.icon ?? { symbol: STANDS_FOR[state.type] ?? "star" }, tint(state.color)),
    expanded ? h("span", { class: "island-title" }, state.title, state.subtitle ? ` · ${state.subtitle}` : "") : null,
    h("span", { class: `figure tint-${tint(state.color)}` }, figure));
}

const STANDS_FOR = { progress: "arrow.clockwise", segmented_progress: "checkmark", metrics: "chart", stats: "chart",
  alert: "bell", timer: "timer", value: "chart" };

const clip = (kind, address) =>
  h("figure", { class: "placeholder" }, h("span", { "aria-hidden": "true" }, kind === "icon" ? "◻" : "▶"),
    h("figcaption", {}, `${kind}: ${address}`));

/** A push: it expands to its media and its actions; behind another one only its edge is seen, if anything. */
export function drawPush(push, behind) {
  const classes = `push ${push.interruption_level ?? "active"}${behind ? ` behind behind-${behind}` : ""}`;
  return h("details", { class: classes, hidden: behind > 2, inert: behind > 0, "data-key": push.id, "data-id": push.id },
    h("summary", {},
      h("img", { class: "app", src: "/page/icon.svg", alt: "" }),
      h("div", { class: "titles" },
        push.interruption_level === "time-sensitive" ? h("p", { class: "level" }, "TIME SENSITIVE") : null,
        h("p", { class: "line" }, h("strong", {}, push.title),
          h("span", { class: "small", "data-ago": push.at }, ago(push.at))),
        push.subtitle ? h("p", { class: "subtitle" }, push.subtitle) : null,
        push.message ? h("p", { class: "message" }, push.message) : null,
        h("p", { class: "small" },
          [push.loud ? null : "delivered quietly",
            push.replaced ? `replaced ${push.replaced} ×` : null].filter(Boolean).join(" · ")))),
    h("div", { class: "more" },
      push.icon ? clip("icon", push.icon) : null,
      push.media ? clip("media", push.media) : null,
      push.redirection ? button({ title: "Open", type: "open_url", url: push.redirection }, push.id, "redirection") : null,
      (push.actions ?? []).map((action, index) => button(action, push.id, String(index))),
      h("button", { type: "button", class: "action plain", "data-dismiss": push.id, "data-key": "dismiss" }, "Dismiss")));
}

/** The widgets' metrics. */
export function drawWidgets(widgets) {
  return Object.entries(widgets).slice(-6).map(([key, value]) =>
    h("div", { class: "widget", "data-key": key }, h("span", { class: "small" }, key), h("strong", {}, number(value))));
}

/** The app's icon with its badge. */
export function drawDock(badge) {
  return h("div", { class: "app-icon", role: "img",
    "aria-label": badge ? `ActivitySmith, badge ${badge}` : "ActivitySmith, no badge" },
    h("img", { src: "/page/icon.svg", alt: "" }), badge ? h("span", { class: "count" }, number(badge)) : null);
}

/** The banner that an alert of a start or an update shows for a few seconds. */
export function drawBanner(cards, receivedAt) {
  const latest = cards.filter((card) => card.alert && now() - card.alert_at < 6).at(-1);
  if (!latest || performance.now() - receivedAt > 6000) return [];
  return [h("div", { class: "banner" }, h("strong", {}, latest.alert.title ?? latest.shown.title),
    latest.alert.body ? h("span", {}, ` ${latest.alert.body}`) : null)];
}

/** The faults that are set and the streams that are paused, each with what takes it away. */
export function drawSet(faults, paused) {
  const remove = (name, value, words) => h("button", { type: "button", [name]: value }, words);
  return [
    ...faults.map((fault) => h("li", { "data-key": `fault-${fault.id}` },
      h("strong", {}, fault.kind), fault.kind === "status" ? ` ${fault.status}` : "",
      fault.kind === "refuse" ? ` for ${asSpan(fault.seconds)} ` : [" ", h("code", {}, `${fault.method} ${fault.path}`), ` · hit ${fault.hits} × `],
      remove("data-remove", fault.id, "Take away"))),
    ...paused.map((key) => h("li", { "data-key": `paused-${key}` },
      h("strong", {}, "paused"), " ", h("code", {}, key), " ", remove("data-resume", key, "Resume"))),
  ];
}

/** True against shown, for a progress. */
export function drawChart(card) {
  const { sent, shown, truth } = card.chart;
  const [from, to] = [card.started_at, Math.max(card.ended_at ?? now(), card.started_at + 1)];
  const x = (at) => ((600 * (Math.min(Math.max(at, from), to) - from)) / (to - from)).toFixed(1);
  const y = (value) => (102 - value).toFixed(1);
  const path = (points, join) => points.length
    ? `${points.map(([at, value], index) => (index ? join(at, value) : `M${x(at)},${y(value)}`)).join(" ")} H${x(to)}` : "M0,102";
  const steps = (points) => path(points, (at, value) => `H${x(at)} V${y(value)}`);
  const lines = (points) => path(points, (at, value) => `L${x(at)},${y(value)}`);
  const told = truth.length > 0;
  const [last, seen] = [(told ? truth : sent).at(-1)?.[1] ?? 0, shown.at(-1)?.[1] ?? 0];
  const words = `${told ? "The job is at" : "Last sent"} ${Math.round(last)} %, the screen shows ${Math.round(seen)} %`;
  return h("figure", { class: "chart", "data-key": card.id },
    h("div", { class: "plot" },
      [100, 50, 0].map((value) => h("span", { class: `axis at-${value}`, "aria-hidden": "true" }, value)),
      s("svg", { viewBox: "0 0 600 104", preserveAspectRatio: "none", role: "img", "aria-label": `${card.shown.title}: ${words}` },
        [0, 50, 100].map((value) => s("line", { class: "grid", x1: 0, x2: 600, y1: y(value), y2: y(value) })),
        s("path", { class: "true", d: lines(told ? truth : sent) }),
        s("path", { class: "shown", d: steps(shown) })),
      h("span", { class: "axis at-end", "aria-hidden": "true" }, asSpan(to - from))),
    h("figcaption", {}, h("strong", {}, card.shown.title), ` · ${words}. `,
      h("span", { class: "key true" }, told ? "true, as the job told" : "true, where it was sent"), " ",
      h("span", { class: "key shown" }, "shown"), ` · ${card.updates} updates, ${card.dropped} not shown`));
}
