// Answers on their way to the server. Each is kept in this browser until the server has it: a lost connection, a reload
// or a crash costs nothing. Sending one twice is harmless, its lease makes sure of that.
import { $ } from "./dom.js";
import { postForParts } from "./net.js";

const RETRY_MS = 5_000;
const KEEPALIVE_BYTES = 60_000; // browsers finish what is smaller even when the page goes away
const KEY = `outbox:${$("#waiting").dataset.user}`;

let steps = read(); // {url, item, lease, shown, body}, in order; `shown` is the lease of the item that the page shows by then
let sending = null;

function read() {
  try { return (JSON.parse(localStorage.getItem(KEY)) || []).map((step) => ({ ...step, shown: undefined })); } catch { return []; }
}

function write() {
  try { localStorage.setItem(KEY, JSON.stringify(steps)); } catch { /* blocked or full: they wait in memory */ }
}

export function add(step) {
  steps = [...steps.filter((other) => other.url !== step.url), step];
  write();
}

export function drop(step) {
  steps = steps.filter((other) => other.url !== step.url);
  write();
}

export const isEmpty = () => !steps.length;

// Sends one after the other. `onReply(step, reply)` is told each reply, null where there was none, and says whether to go on.
export function flush(onReply) {
  sending ||= sendAll(onReply).finally(() => { sending = null; showWaiting(); });
  return sending;
}

async function sendAll(onReply) {
  while (steps.length) {
    const [step] = steps;
    const body = new URLSearchParams(step.body);
    if (step.shown) body.set("shown", step.shown);
    const reply = await postForParts(step.url, { body, keepalive: step.body.length < KEEPALIVE_BYTES });
    if (!onReply(step, reply)) return;
  }
}

function showWaiting() {
  const note = $("#waiting");
  note.hidden = isEmpty();
  note.textContent = steps.length === 1 ? note.dataset.one : note.dataset.many.replace("#", steps.length);
}

export function keepTrying(onReply) {
  const retry = () => { if (!isEmpty()) flush(onReply); };
  addEventListener("online", retry);
  setInterval(retry, RETRY_MS);
  retry();
}
