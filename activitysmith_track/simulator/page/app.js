// Keeps the page at what the simulator last said, and passes on what is pressed.

import { drawBanner, drawCard, drawChart, drawDock, drawIsland, drawPush, drawSet, drawWidgets, share } from "./cards.js";
import { fill, h } from "./dom.js";
import { ago, asClock, asSpan, date, now, reading, setClock } from "./time.js";

const at = (id) => document.getElementById(id);
const LONGEST_LOG = 300;

let state = null;
let receivedAt = 0;
let expanded = false; // the Dynamic Island
let spread = false; // the stack of pushes
let known = null; // ids of the pushes that were announced
let run = null;
let rows = [];

// ------------------------------------------------------------------------------------------------- drawing

function draw() {
  if (state === null) return;
  const focused = document.activeElement;
  drawPhone();
  drawDesk();
  if (focused !== document.body && !focused.isConnected) at("scroll").focus({ preventScroll: true });
}

function drawPhone() {
  const { cards, now: then } = state;
  fill(at("island"), drawIsland(cards, then, expanded));
  fill(at("banner"), drawBanner(cards, receivedAt));
  fill(at("widgets"), drawWidgets(state.widgets));
  fill(at("cards"), cards.map((card) => drawCard(card, then)));
  fill(at("pushes"), stack([...state.pushes].reverse()));
  fill(at("dock"), drawDock(state.badge));
}

function drawDesk() {
  const { cards } = state;
  const charts = cards.filter((card) => card.chart !== null).map(drawChart);
  fill(at("charts"), charts.length ? charts : h("p", { class: "quiet" }, "No progress on the screen."));
  at("taps-section").hidden = state.taps.length === 0;
  fill(at("taps"), [...state.taps].reverse().map(tapped));
  at("set-section").hidden = state.faults.length + state.paused.length === 0;
  fill(at("set"), drawSet(state.faults, state.paused));
  drawClock();
}

/** The newest push and the edges of those behind it, or all of them. What is open or has the focus is never hidden. */
function stack(pushes) {
  const shown = (push) => at("pushes").querySelector(`:scope > [data-key="${CSS.escape(push.id)}"]`);
  const isHeld = (push) => shown(push)?.open || shown(push)?.contains(document.activeElement);
  spread = pushes.length > 1 && (spread || pushes.slice(1).some(isHeld));
  const words = spread ? "Show less" : `${pushes.length - 1} more`;
  const toggle = h("button", { type: "button", class: "unstack", "data-stack": true, "data-key": "unstack", "aria-expanded": String(spread) }, words);
  return [...pushes.map((push, index) => drawPush(push, spread ? 0 : index)), pushes.length > 1 ? toggle : null];
}

function tapped(tap) {
  return h("li", {}, h("strong", {}, tap.title), ` ${tap.type} ${tap.method ?? ""} `, h("code", {}, tap.url), ` · ${tap.outcome}`);
}

function drawClock() {
  const shown = date();
  at("time").textContent = shown.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  at("date").textContent = shown.toLocaleDateString("en-GB", { weekday: "long", day: "numeric", month: "long" });
  const words = state.speed === 0 ? "It stands until it is moved" : state.speed === 1 ? "It runs in real time" : `It runs × ${state.speed}`;
  at("pace").textContent = `${words}; ${asClock(Math.floor(now()))} since the start.`;
  const choice = at("speed");
  if (document.activeElement !== choice) choice.value = String(state.speed);
}

/** What moves on its own: timers, ages, the clock. */
function tick() {
  if (state === null) return;
  for (const element of document.querySelectorAll("[data-timer]")) {
    const timer = JSON.parse(element.dataset.timer);
    element.textContent = asClock(reading(timer, timer.at));
  }
  for (const element of document.querySelectorAll("[data-window]")) {
    const timer = JSON.parse(element.dataset.window);
    element.style.width = `${share(timer, timer.at)}%`;
  }
  for (const element of document.querySelectorAll("[data-ago]")) element.textContent = ago(Number(element.dataset.ago));
  for (const element of document.querySelectorAll("[data-until]")) {
    element.textContent = `${element.dataset.words ?? "again in"} ${asSpan(Number(element.dataset.until) - now())}`;
  }
  fill(at("banner"), drawBanner(state.cards, receivedAt));
  drawClock();
}

// ----------------------------------------------------------------------------------------------------- log

function drawLog() {
  const wanted = at("verdict").value;
  rows = rows.filter((row) => row.number > (state?.forgotten ?? 0)).slice(-LONGEST_LOG);
  const counts = new Map();
  for (const row of rows) counts.set(row.verdict, (counts.get(row.verdict) ?? 0) + 1);
  const told = [...counts].map(([verdict, count]) => `${count} ${verdict}`).join(", ");
  at("counts").textContent = rows.length ? `The last ${rows.length}: ${told}` : "Nothing yet.";
  fill(at("log"), rows.filter((row) => !wanted || row.verdict === wanted).reverse().map(drawRow));
}

function drawRow(row) {
  const when = new Date(date().getTime() - (now() - row.at) * 1000).toLocaleTimeString("en-GB");
  return h("li", { "data-key": row.number, value: row.number },
    h("details", { "data-request": row.number },
      h("summary", {}, h("time", {}, when), h("span", { class: `verdict ${row.verdict.replace(" ", "-")}` }, row.verdict),
        h("code", {}, `${row.method} ${row.path}`), h("span", { class: "why" }, `${row.status || "no answer"} · ${row.why}`)),
      h("pre", { "data-own": true, tabindex: 0, role: "region", "aria-label": `Request ${row.number}` })));
}

async function showRequest(details) {
  const place = details.querySelector("pre");
  if (!details.open || place.textContent) return;
  try {
    const answer = await fetch(`/simulator/requests/${details.dataset.request}`);
    const { body, answer: answered, message } = await answer.json();
    place.textContent = answer.ok ? `${JSON.stringify(body, null, 2)}\n\n→ ${JSON.stringify(answered, null, 2)}` : message;
  } catch {
    place.textContent = "The simulator does not answer.";
  }
}

// ------------------------------------------------------------------------------------------------ pressing

async function command(path, body, method = "POST") {
  try {
    const answer = await fetch(path, { method, headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
    if (!answer.ok) say((await answer.json()).message);
    return answer.ok;
  } catch {
    say("The simulator does not answer.");
    return false;
  }
}

function say(words) {
  at("announcements").textContent = words;
}

document.addEventListener("click", (event) => {
  const pressed = event.target.closest("[data-tap], [data-dismiss], [data-advance], [data-island], [data-stack], [data-remove], [data-resume]");
  if (pressed === null) return;
  if (pressed.dataset.tap !== undefined) command("/simulator/taps", { id: pressed.dataset.id, button: pressed.dataset.tap });
  else if (pressed.dataset.dismiss !== undefined) command("/simulator/dismiss", { id: pressed.dataset.dismiss });
  else if (pressed.dataset.advance !== undefined) command("/simulator/clock", { advance: Number(pressed.dataset.advance) });
  else if (pressed.dataset.remove !== undefined) command(`/simulator/faults/${pressed.dataset.remove}`, {}, "DELETE");
  else if (pressed.dataset.resume !== undefined) command(`/simulator/streams/${pressed.dataset.resume}/resume`, {});
  else {
    if (pressed.dataset.stack !== undefined) [spread] = [!spread, fold()];
    else expanded = !expanded;
    draw();
  }
});

/** Close what is open among the pushes, so that it can go behind the newest one. */
function fold() {
  for (const push of at("pushes").querySelectorAll("details[open]")) push.open = false;
}

at("log").addEventListener("toggle", (event) => showRequest(event.target), true);
at("verdict").addEventListener("change", drawLog);
at("speed").addEventListener("change", (event) => command("/simulator/clock", { speed: Number(event.target.value) }));
at("clear").addEventListener("click", () => command("/simulator/clear", {}));

const theme = at("theme");
function setTheme(name) {
  document.documentElement.dataset.theme = name;
  theme.setAttribute("aria-pressed", String(name === "dark"));
}
setTheme(new URLSearchParams(location.search).get("theme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
theme.addEventListener("click", () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));

// -------------------------------------------------------------------------------------------------- events

function announce() {
  const fresh = known === null ? [] : state.pushes.filter((push) => !known.has(push.id));
  known = new Set(state.pushes.map((push) => push.id));
  if (fresh.length) say(fresh.map((push) => `Push: ${push.title}. ${push.message ?? ""}`).join(" "));
}

const events = new EventSource("/simulator/events");

events.addEventListener("open", () => {
  at("connection").textContent = "live";
  document.documentElement.dataset.connected = "true";
});
events.addEventListener("error", () => {
  at("connection").textContent = "reconnecting …";
  document.documentElement.dataset.connected = "false";
});
events.addEventListener("run", (event) => {
  const name = JSON.parse(event.data);
  if (name !== run) [run, rows, known, state] = [name, [], null, null]; // another simulator: nothing is known of it
});
events.addEventListener("state", (event) => {
  state = JSON.parse(event.data);
  receivedAt = performance.now();
  setClock(state);
  announce();
  draw();
  drawLog();
});
events.addEventListener("requests", (event) => {
  const given = JSON.parse(event.data);
  const seen = new Set(rows.map((row) => row.number));
  rows.push(...given.filter((row) => !seen.has(row.number)));
  drawLog();
});

setInterval(tick, 250);
