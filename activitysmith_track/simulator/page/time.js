// The simulated clock as the page knows it between two frames, and how times are written.

let base = { now: 0, date: 0, speed: 1, at: performance.now() };

/** Take over the clock of a frame. */
export function setClock({ now, date, speed }) {
  base = { now, date, speed, at: performance.now() };
}

const passed = () => ((performance.now() - base.at) / 1000) * base.speed;

/** The simulated seconds now. */
export const now = () => base.now + passed();

/** The simulated date now. */
export const date = () => new Date((base.date + passed()) * 1000);

const two = (number) => String(number).padStart(2, "0");

/** 75 is "1:15", 3675 is "1:01:15". */
export function asClock(seconds) {
  const whole = Math.max(0, seconds);
  if (whole >= 1e4 * 3600) return "> 9999 h";
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

/** 75 is "1 min", 5400 is "1 h 30 min". */
export function asSpan(seconds) {
  const minutes = Math.floor(Math.max(0, seconds) / 60);
  if (minutes < 1) return `${Math.floor(Math.max(0, seconds))} s`;
  if (minutes < 60) return `${minutes} min`;
  if (minutes >= 48 * 60) return minutes < 1e4 * 1440 ? `${Math.floor(minutes / 1440)} days` : "> 9999 days";
  return minutes % 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${minutes / 60} h`;
}

/** How long ago, as a notification says it. */
export function ago(at) {
  const seconds = now() - at;
  return seconds < 60 ? "now" : `${asSpan(seconds)} ago`;
}

/** What a timer shows now: it was `reading` at `at`, and moves unless it stands. */
export function reading({ reading: then, running, counts_down: down, duration }, at) {
  const moved = running ? now() - at : 0;
  if (down && duration !== null) return Math.ceil(Math.max(0, then - moved));
  const seconds = duration === null ? then + moved : Math.min(then + moved, duration);
  return Math.floor(seconds);
}
