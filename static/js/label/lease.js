// The item stays with the person while they look at it, and goes back when they leave.
import { gettext } from "../i18n.js";
import { problem, task } from "./dom.js";
import { post } from "./net.js";

const HEARTBEAT_MS = 30_000;

async function beat() {
  const path = task().dataset.heartbeat;
  if (!path || document.visibilityState !== "visible") return;
  const answer = await post(path).catch(() => null); // offline: the next beat will tell
  if (answer?.status === 409 && task().dataset.heartbeat === path) {
    problem(gettext("This item went back to the queue because the page was idle for long. You can still answer it."));
  }
}
setInterval(beat, HEARTBEAT_MS);
document.addEventListener("visibilitychange", beat);

beat(); // after a reload the item is about to go back

addEventListener("pagehide", () => {
  if (task().dataset.release) post(task().dataset.release, { keepalive: true });
});
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
