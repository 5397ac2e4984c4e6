// The live chat: keys, the socket that says when to look again, and what a screen reader is told. Plain forms do the rest.
import { activeTime, restartTime } from "./label/time.js";
import { connect } from "./live.js";

const NEAR = 160; // pixels from the end of the page within which it follows what is written
const $ = (selector) => document.querySelector(selector);
const say = (text) => { $("#announce").textContent = text; };
const state = () => $("#vote")?.dataset.state;
const isAtEnd = () => innerHeight + scrollY > document.documentElement.scrollHeight - NEAR;

// On a phone the box would bring up the keyboard, over what is to be read.
function focusBox() {
  const box = matchMedia("(hover: hover)").matches && $("#message");
  (box || $("#chat-title")).focus({ preventScroll: true });
}

// -- What is written -------------------------------------------------------------------------------------------------

let before = state();
let wasAtEnd = true;

connect(`/ws/campaigns/${$("#chat").dataset.campaign}/chat/`, {
  onMessage: () => { if (["loading", "writing"].includes(state())) window.htmx.trigger("#live", "refresh"); },
});
document.addEventListener("htmx:beforeSwap", () => { wasAtEnd = isAtEnd(); });
document.addEventListener("htmx:afterSettle", () => {
  const told = $("#chat").dataset[state()];
  if (state() !== before && told) say(told);
  before = state();
  if (wasAtEnd) scrollTo({ top: document.documentElement.scrollHeight });
});
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id !== "chat") return; // a step of one's own, not something written
  restartTime();
  wasAtEnd = true;
  focusBox();
});
if ($("#message")) {
  focusBox();
  scrollTo({ top: document.documentElement.scrollHeight });
}
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

// -- Keys ------------------------------------------------------------------------------------------------------------

const choose = (value) => $(`#votes button[value="${value}"]`)?.click();
const toggleGuidelines = () => { $("#guidelines").open = !$("#guidelines").open; };
const KEYS = {
  1: () => choose("A"),
  2: () => choose("B"),
  "=": () => choose("tie"),
  t: () => choose("tie"),
  0: () => choose("bad"),
  m: () => $("#message")?.focus(),
  r: () => { if ($("#why")) { $("#why").open = true; $("#rationale").focus(); } },
  n: () => ($("#anew") || $("#begin button"))?.click(),
  g: toggleGuidelines,
  "?": () => $("#keys").showModal(),
  Escape: () => { $("#guidelines").open = false; },
};

document.addEventListener("keydown", (event) => {
  const { key, target } = event;
  if (event.repeat || event.isComposing || event.metaKey || event.ctrlKey || event.altKey || target.closest("dialog")) return;
  if (target.closest("textarea, input, select")) {
    if (key === "Escape") $("#chat-title").focus({ preventScroll: true });
    if (key !== "Enter" || event.shiftKey || target.id !== "message") return;
    event.preventDefault();
    target.form.requestSubmit();
  } else if (KEYS[key]) {
    event.preventDefault();
    KEYS[key]();
  }
});
document.addEventListener("click", (event) => {
  if (event.target.closest("[data-keys]")) $("#keys").showModal();
  else if (event.target.closest("#keys [data-close]")) $("#keys").close();
  else if (event.target.closest("[data-close]") || !event.target.closest("#guidelines")) $("#guidelines").open = false;
});
document.addEventListener("submit", (event) => {
  if (event.target.id === "votes") event.target.elements.active_ms.value = activeTime();
}, true);
