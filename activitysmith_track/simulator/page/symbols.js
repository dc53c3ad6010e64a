// SF Symbols may not be redistributed: the commoner names have a drawing of our own, all others a plain tile with the
// name's initial. The name itself is always there for the pointer and for screen readers.

import { h, s } from "./dom.js";

const ROUND = { "stroke-linecap": "round", "stroke-linejoin": "round" };

const DRAWINGS = {
  alert: "M12 4 21 20H3Z M12 10v4 M12 17v.2",
  archive: "M4 5h16v4H4Z M6 9v10h12V9 M10 13h4",
  arrow: "M12 4v16 M5 11l7-7 7 7",
  arrows: "M4 9a8 8 0 0 1 14-3l2 2 M20 4v4h-4 M20 15a8 8 0 0 1-14 3l-2-2 M4 20v-4h4",
  bell: "M6 17V11a6 6 0 0 1 12 0v6l2 2H4Z M10 21h4",
  bolt: "M13 3 5 14h6l-1 7 8-11h-6Z",
  chart: "M4 20V4 M4 20h16 M8 16v-5 M12 16V8 M16 16v-7",
  check: "M12 3a9 9 0 1 0 .1 0 M8 12l3 3 5-6",
  clock: "M12 3a9 9 0 1 0 .1 0 M12 7v5l4 2",
  cloud: "M7 18a4 4 0 0 1 0-8 6 6 0 0 1 11 1 3.500 3.500 0 0 1 0 7Z",
  cpu: "M7 7h10v10H7Z M10 3v4 M14 3v4 M10 17v4 M14 17v4 M3 10h4 M3 14h4 M17 10h4 M17 14h4",
  cross: "M12 3a9 9 0 1 0 .1 0 M9 9l6 6 M15 9l-6 6",
  database: "M5 6c0-4 14-4 14 0s-14 4-14 0v12c0 4 14 4 14 0V6 M5 12c0 4 14 4 14 0",
  dollar: "M12 3a9 9 0 1 0 .1 0 M15 9c-1-2-6-2-6 .5S15 11 15 14s-5 3-6 1 M12 6v12",
  gear: "M12 9a3 3 0 1 0 .1 0 M12 3v3 M12 18v3 M3 12h3 M18 12h3 M6 6l2 2 M16 16l2 2 M18 6l-2 2 M8 16l-2 2",
  hammer: "M4 7l5-3 5 3-2 3 8 8-3 3-8-8-3 1Z",
  heart: "M12 20C2 13 4 5 8.500 5 11 5 12 8 12 8s1-3 3.500-3C20 5 22 13 12 20Z",
  house: "M4 11l8-7 8 7v9h-5v-6H9v6H4Z",
  lens: "M10.500 4a6.500 6.500 0 1 0 .1 0 M15.500 15.500 20 20",
  pause: "M12 3a9 9 0 1 0 .1 0 M10 9v6 M14 9v6",
  play: "M8 5l11 7-11 7Z",
  server: "M4 4h16v6H4Z M4 14h16v6H4Z M8 7v.2 M8 17v.2",
  sparkles: "M10 4l2 6 6 2-6 2-2 6-2-6-6-2 6-2Z M18 3v4 M16 5h4",
  star: "M12 3l3 6 6 1-4.500 4 1 6-5.500-3-5.500 3 1-6L3 10l6-1Z",
  thermometer: "M10 4a2 2 0 0 1 4 0v10a4 4 0 1 1-4 0Z M12 9v8",
  timer: "M12 6a7.500 7.500 0 1 0 .1 0 M12 10v4 M10 2h4",
  tray: "M4 14v5h16v-5 M12 4v9 M8 9l4 4 4-4",
};

const WORDS = [
  ["exclamation", "alert"], ["xmark", "cross"], ["checkmark", "check"], ["archive", "archive"], ["tray", "tray"],
  ["square.and.arrow.down", "tray"], ["arrow.triangle", "arrows"], ["arrow.clockwise", "arrows"], ["arrow", "arrow"],
  ["bell", "bell"], ["bolt", "bolt"], ["chart", "chart"], ["timer", "timer"], ["hourglass", "timer"],
  ["stopwatch", "timer"], ["clock", "clock"], ["cloud", "cloud"], ["cpu", "cpu"], ["memorychip", "cpu"],
  ["cylinder", "database"], ["externaldrive", "server"], ["internaldrive", "server"], ["server", "server"],
  ["dollar", "dollar"], ["gear", "gear"], ["wrench", "hammer"], ["hammer", "hammer"], ["heart", "heart"],
  ["house", "house"], ["magnifyingglass", "lens"], ["pause", "pause"], ["play", "play"], ["sparkles", "sparkles"], ["thermometer", "thermometer"], ["star", "star"],
];

/** Draw an SF Symbol by its name. */
export function symbol(icon, color) {
  const name = String(icon.symbol);
  const word = WORDS.find(([part]) => name.toLowerCase().includes(part));
  const drawing = word
    ? s("path", { d: DRAWINGS[word[1]], fill: "none", stroke: "currentColor", "stroke-width": 2, ...ROUND })
    : [
        s("rect", { x: 3, y: 3, width: 18, height: 18, rx: 5, fill: "currentColor", opacity: 0.25 }),
        s("text", { x: 12, y: 17, "text-anchor": "middle", "font-size": 13, fill: "currentColor" },
          [...name][0]?.toUpperCase() ?? "?"),
      ];
  return h("span", { class: `symbol tint-${icon.color ?? color ?? "blue"}`, role: "img", "aria-label": name, title: name },
    s("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, drawing));
}
