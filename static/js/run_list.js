// The list of runs stays true without reloading: over the websocket, or by polling while that is down.
import { connect } from "./live.js";

const POLL_EVERY = 5000;
let connected = false;

function take(message) {
  let unknown = false;
  let ended = false;
  for (const run of message.runs) {
    const row = document.querySelector(`[data-run="${run.id}"]`);
    if (!row) {
      unknown = true;
      continue;
    }
    if (!run.active && !row.querySelector(`.badge.${run.state}`)) ended = true;
    const badge = row.querySelector("[data-state]");
    badge.className = `badge ${run.state}`;
    badge.textContent = run.label;
    row.querySelector("[data-line]").textContent = run.line;
    const bar = row.querySelector("progress");
    bar.max = run.total_steps || 1;
    bar.value = run.step;
  }
  // A run that ended has numbers to show. A run somebody started since is not here yet; on a later page of the list or
  // on that of one campaign, all the newest ones may be unknown.
  if (ended || (unknown && !location.search)) htmx.trigger("#runs", "refresh");
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
