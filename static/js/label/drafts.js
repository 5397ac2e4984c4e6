// What was entered and not yet sent: kept in this browser, so that it survives a reload and an item that went back and
// came again. Letters belong to one lease, for another one shuffles the answers; flags and reasons belong to the item.
import { $, task } from "./dom.js";

const MOST = 20;
const KEY = `drafts:${$("#waiting").dataset.user}`;
const OF_ITEM = ["flags", "rationale"];

function read() {
  try { return JSON.parse(localStorage.getItem(KEY)) || []; } catch { return []; }
}

function write(drafts) {
  try { localStorage.setItem(KEY, JSON.stringify(drafts.slice(0, MOST))); } catch { /* blocked or full: nothing is kept */ }
}

const others = () => read().filter((draft) => draft.item !== task().dataset.item);

function entered() {
  const kept = {};
  for (const [name, value] of new FormData($("#answer"))) {
    if (value && !["csrfmiddlewaretoken", "active_ms", "form_version", "partial"].includes(name)) (kept[name] ||= []).push(value);
  }
  return kept;
}

export function keepDraft() {
  const { item, lease } = task().dataset;
  if (item) write([{ item, lease, fields: entered() }, ...others()]);
}

export const dropDraft = (item) => write(read().filter((draft) => draft.item !== item));

export function restoreDraft() {
  const { item, lease } = task().dataset;
  const draft = item && read().find((other) => other.item === item);
  if (!draft) return;
  for (const [name, values] of Object.entries(draft.fields)) {
    if (draft.lease === lease || OF_ITEM.includes(name)) fill(name, values);
  }
}

function fill(name, values) {
  for (const input of $("#answer").elements) {
    if (input.name !== name || input.tagName === "BUTTON") continue;
    if (["checkbox", "radio"].includes(input.type)) input.checked = values.includes(input.value);
    else input.value = values[0];
  }
}

let timer = 0;
for (const name of ["input", "change", "click", "keyup"]) { // ranks are also set by keys and by buttons
  document.addEventListener(name, (event) => {
    if (!event.target.closest("#task")) return;
    clearTimeout(timer);
    const { lease } = task().dataset;
    timer = setTimeout(() => { if (task().dataset.lease === lease) keepDraft(); }, 300);
  });
}
addEventListener("pagehide", () => { if (timer) keepDraft(); });
