// From one item to the next. The next one is fetched ahead and shown at once, while the answer is still on its way. When
// the server does not take the answer, the item comes back as it was; when it gives another item, that one is shown.
import { gettext } from "../i18n.js";
import { fadeToast, refusal, toast } from "../toast.js";
import { $, task } from "./dom.js";
import { postForParts } from "./net.js";
import { dropDraft } from "./drafts.js";
import * as outbox from "./outbox.js";
import { restartTime } from "./time.js";

let onShown = () => {};
let ahead = null; // the item after this one, if it has come
let left = null; // {step, node, next}: the item that was answered last, until its answer is taken

const show = (node) => {
  task().replaceWith(node);
  onShown();
};

async function fetchAhead() {
  ahead = null;
  const { ahead: path, lease } = task().dataset;
  if (!path || isSending()) return;
  const reply = await postForParts(path);
  const node = reply?.status === 200 && reply.parts.querySelector("#task");
  if (!node || task().dataset.lease !== lease) return;
  ahead = document.adoptNode(node);
  window.htmx.process(ahead);
}

const isSending = () => task().ariaBusy === "true";

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || !form.matches("#answer:not([data-plain]), #skip-form")) return;
  event.preventDefault();
  if (isSending()) return;
  const body = new FormData(form, event.submitter);
  body.delete("csrfmiddlewaretoken");
  const step = { url: form.action, item: task().dataset.item, lease: task().dataset.lease, shown: ahead?.dataset.lease, body: `${new URLSearchParams(body)}` };
  outbox.add(step);
  left = { step, node: task(), next: ahead };
  if (ahead) show(ahead);
  else task().ariaBusy = "true";
  ahead = null;
  setTimeout(() => outbox.flush(onReply)); // the next item is painted first
});

// Answers first: what is undone, or asked for, depends on them.
document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches("#undo-form, #next-form") || outbox.isEmpty()) return;
  event.preventDefault();
  event.stopPropagation();
  await outbox.flush(onReply);
  if (outbox.isEmpty()) document.getElementById(form.id)?.requestSubmit();
  else toast(gettext("The server cannot be reached. Your answers wait in this browser."));
}, true);

function onReply(step, reply) {
  if (!reply) return waitForServer();
  if (reply.status === 200) return taken(step, reply.parts);
  const text = reply.parts.querySelector(".notice");
  const final = [404, 409, 422].includes(reply.status);
  if (goBack(step)) {
    outbox.drop(step);
    if (text && final) $("#task-problem").replaceChildren(text);
    window.htmx.process($("#task-problem"));
  } else if (final) outbox.drop(step);
  if (!text || !final) toast(refusal(reply.status));
  else if (left?.step !== step) toast(text.textContent, "warning");
  return final;
}

function taken(step, parts) {
  outbox.drop(step);
  dropDraft(step.item);
  const next = parts.querySelector("#task");
  for (const part of [...parts.children]) {
    if (part !== next && part.id) document.getElementById(part.id)?.replaceWith(part);
  }
  fadeToast();
  const { lease } = task().dataset;
  if (next && (!lease || lease === step.lease || lease === step.shown)) {
    window.htmx.process(next);
    show(next);
  }
  if (left?.step === step) left = null;
  fetchAhead();
  return true;
}

// Back to the item whose answer was not taken, unless the person has gone on since.
function goBack(step) {
  if (left?.step !== step) return false;
  left.node.ariaBusy = null;
  if (task() === left.node) return true;
  ahead = left.next;
  show(left.node);
  restartTime(Number(new URLSearchParams(step.body).get("active_ms")));
  return true;
}

function waitForServer() {
  if (isSending()) show($("#offline").content.cloneNode(true).firstElementChild);
  return false;
}

export function start(shown) {
  onShown = shown;
  outbox.keepTrying(onReply);
  setTimeout(fetchAhead);
}

// htmx has put another item on the page.
export function replaced() {
  left = null;
  fetchAhead();
}
