// The list of runs stays true without reloading: over the websocket, or by polling while that is down.
import { connect } from "./live.js";

const POLL_EVERY = 5000;
let connected = false;

function take(message) {
  let unknown = false;
  for (const run of message.runs) {
    const row = document.querySelector(`[data-run="${run.id}"]`);
    if (!row) {
      unknown = true;
      continue;
    }
    const badge = row.querySelector("[data-state]");
    badge.className = `badge ${run.state}`;
    badge.textContent = run.label;
    row.querySelector("[data-line]").textContent = run.line;
    const bar = row.querySelector("progress");
    bar.max = run.total_steps || 1;
    bar.value = run.step;
  }
  // A run somebody started since; on a later page of the list, all the newest ones are unknown.
  if (unknown && !location.search.includes("page=")) htmx.trigger("#runs", "refresh");
}

async function poll() {
  try {
    const response = await fetch("/runs/live", { headers: { Accept: "application/json" } });
    if (response.ok) take(await response.json());
  } catch { /* the server is away; the next attempt comes */ }
}

connect("/ws/runs/", {
  onMessage: take,
  onUp: () => { connected = true; },
  onDown: () => { connected = false; },
});
setInterval(() => { if (!connected) poll(); }, POLL_EVERY);
