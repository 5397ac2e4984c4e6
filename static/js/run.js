// A run page follows its run: over the websocket, or by polling while that is down. Both give the same messages, and
// an event is taken once, by its number, whichever way it comes.
import { gettext } from "./i18n.js";
import { connect } from "./live.js";
import { Chart } from "./run_charts.js";

const POLL_EVERY = 4000;
const root = document.getElementById("charts");
const charts = [...root.querySelectorAll(".chart")].map((section) => new Chart(section));
let last = 0;
let connected = false;
let drawing = false;

function drawSoon() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    for (const chart of charts) chart.draw();
  });
}

function take(message) {
  let samples = false;
  for (const event of message.events) {
    if (event.seq <= last) continue;
    last = event.seq;
    if (event.type === "metrics") for (const chart of charts) chart.add(event.step, event.metrics);
    if (event.type === "sample") samples = true;
  }
  if (message.events.length) drawSoon();
  if (samples && document.getElementById("samples")) htmx.trigger("#samples", "refresh");
  showState(message.run);
}

function showState(run) {
  const head = document.getElementById("run-head");
  if (head.dataset.state !== run.state || head.dataset.stopping !== String(run.stopping)) {
    if (head.dataset.state !== run.state) document.getElementById("announce").textContent = gettext("Run: {state}", { state: run.label });
    head.dataset.state = run.state;
    head.dataset.stopping = String(run.stopping);
    htmx.trigger(head, "refresh"); // other buttons, the next step, an error
    return;
  }
  const bar = head.querySelector("progress");
  bar.max = run.total_steps || 1;
  bar.value = run.step;
  head.querySelector("[data-line]").textContent = run.line;
}

async function poll() {
  try {
    let message;
    do {
      const response = await fetch(`${root.dataset.live}?after=${last}`, { headers: { Accept: "application/json" } });
      if (!response.ok) return;
      message = await response.json();
      take(message);
    } while (message.more);
  } catch { /* the server is away; the next attempt comes */ }
}

function repaint() {
  for (const chart of charts) chart.repaint();
}
new MutationObserver(repaint).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);

const response = await fetch(root.dataset.series);
const known = await response.json();
last = known.last;
for (const chart of charts) chart.load(known.series);
drawSoon();
connect(`/ws/runs/${root.dataset.run}/`, {
  hello: () => ({ after: last }),
  onMessage: take,
  onUp: () => { connected = true; },
  onDown: () => { connected = false; },
});
setInterval(() => { if (!connected) poll(); }, POLL_EVERY);
