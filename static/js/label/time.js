// Time that counts, and the moment in which a new item appeared.
const IDLE_MS = 30_000; // without a sign of life for so long, time does not count
const CALM_MS = 350; // keys this soon after a new item were meant for the one before

let shownAt = 0;
let activeMs = 0;
let workedMs = 0;
let paused = false;
let lastSign = 0;
let lastTick = performance.now();
for (const name of ["pointermove", "pointerdown", "keydown", "scroll", "wheel", "touchmove"]) {
  document.addEventListener(name, () => { lastSign = performance.now(); }, { capture: true, passive: true });
}
const isActive = () => !paused && document.visibilityState === "visible" && performance.now() - lastSign < IDLE_MS;
setInterval(() => {
  const now = performance.now();
  const step = isActive() ? Math.min(now - lastTick, 1000) : 0;
  activeMs += step;
  workedMs += step;
  lastTick = now;
}, 250);

export function restartTime(spent = 0) {
  activeMs = spent;
  shownAt = performance.now();
  lastSign = shownAt;
}

export const workedTime = () => workedMs;
export const setPaused = (on) => { paused = on; };
export const activeTime = () => Math.round(activeMs);
export const isCalm = () => performance.now() - shownAt > CALM_MS;

export function press(button) {
  if (isCalm()) button?.click();
}
