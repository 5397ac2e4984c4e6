// The annotator's screen: keys, ranks, time. The form works without any of this; here it becomes quick.
// The rank menus are the only state. Everything else is read from them.
import { fadeToast } from "./toast.js";

const IDLE_MS = 30_000; // without a sign of life for so long, time does not count
const HEARTBEAT_MS = 30_000;
const UNSURE = "button[value=cannot_tell]";
const CALM_MS = 350; // keys this soon after a new item were meant for the one before

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const task = () => $("#task");
const isRanking = () => task().dataset.protocol === "ranking";
const say = (text) => { $("#announce").textContent = text; };

// -- Ranks -----------------------------------------------------------------------------------------------------------

const NO_RANKS = matchMedia("(hover: hover)").matches
  ? "No ranks yet: press numbers, or pick the letters from best to worst" : "No ranks yet: pick the letters, best first";
const cards = () => $$(".answer-card");
const menu = (card) => $("select", card);
const rankOf = (card) => Number(menu(card).value);
const letters = (some) => some.map((card) => card.dataset.label);
const unranked = () => cards().filter((card) => !rankOf(card));

function tiers() {
  const ranks = [...new Set(cards().map(rankOf).filter(Boolean))].sort((a, b) => a - b);
  return ranks.map((rank) => cards().filter((card) => rankOf(card) === rank));
}

function orderText() {
  const order = tiers().map((tier) => letters(tier).join(" = ")).join(" > ");
  const rest = letters(unranked()).join(", ");
  return order ? order + (rest ? ` · ${rest} unranked` : "") : NO_RANKS;
}

function showOrder() {
  const order = $("#order");
  if (!order) return;
  order.textContent = orderText();
  for (const card of cards()) card.classList.toggle("ranked", rankOf(card) > 0);
  setPartial(false);
}

function setRank(card, rank) {
  menu(card).value = rank || "";
  showOrder();
  sayPlace(card);
}

function sayPlace(card) {
  const letter = card.dataset.label;
  const place = tiers().findIndex((tier) => tier.includes(card));
  if (place < 0) return say(`${letter} has no rank. ${orderText()}`);
  const others = letters(tiers()[place]).filter((other) => other !== letter);
  say(`${letter} is ${place + 1}${others.length ? `, level with ${others.join(" and ")}` : ""}. ${orderText()}`);
}

// One step: out of a tie to a place of its own, or from there level with the neighbours. An unranked card starts last.
function move(card, up) {
  const order = tiers();
  const at = order.findIndex((tier) => tier.includes(card));
  if (at < 0) order.push([card]);
  else if (order[at].length > 1) {
    order[at] = order[at].filter((other) => other !== card);
    order.splice(up ? at : at + 1, 0, [card]);
  } else if (order[at + (up ? -1 : 1)]) {
    order[at + (up ? -1 : 1)].push(card);
    order.splice(at, 1);
  }
  order.forEach((tier, index) => tier.forEach((other) => { menu(other).value = index + 1; }));
  showOrder();
  sayPlace(card);
}

// Letters clicked from the best to the worst make the whole ranking; a second click takes the rank away.
function rankNext(card) {
  if (rankOf(card)) setRank(card, 0);
  else move(card, false);
}

// -- The marked card (roving focus) ----------------------------------------------------------------------------------

const marked = () => $(".answer-card[tabindex='0']") || cards()[0];

function mark(card, focus = true) {
  for (const other of cards()) other.tabIndex = other === card ? 0 : -1;
  if (!focus) return;
  card.focus({ preventScroll: true });
  const fits = card.offsetHeight < 0.6 * innerHeight;
  card.scrollIntoView({ block: fits ? "nearest" : "start" }); // of a long one, its beginning
}

function markNext(step) {
  if (!document.activeElement.closest(".answer-card")) return mark(marked());
  const all = cards();
  mark(all[(all.indexOf(marked()) + step + all.length) % all.length]);
}

function rankMarked(rank) {
  const card = marked();
  setRank(card, rank);
  const all = cards();
  const at = all.indexOf(card);
  const next = rank ? [...all.slice(at + 1), ...all.slice(0, at)].find((other) => !rankOf(other)) : null;
  mark(next || card);
}

// -- Submitting ------------------------------------------------------------------------------------------------------

let activeMs = 0;

function setPartial(on) {
  $("#answer").elements.partial.checked = on;
}

function problem(text) {
  const note = document.createElement("p");
  note.className = "notice warning";
  note.textContent = text;
  $("#task-problem").replaceChildren(note);
}

// Before htmx sees it: complete answers go, partial ones are asked about once.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.id !== "answer") return;
  form.elements.active_ms.value = Math.round(activeMs);
  if (!isRanking() || event.submitter?.matches(UNSURE)) return;
  const missing = unranked();
  const stop = (text) => { problem(text); event.preventDefault(); event.stopPropagation(); };
  if (cards().length - missing.length < 2) stop("Rank at least two answers, or say that you can’t tell.");
  else if (missing.length && !form.elements.partial.checked) {
    stop(`${letters(missing).join(", ")}: no rank yet. Press Enter or Submit again to leave them unranked.`);
    setPartial(true);
  }
}, true);

function press(button) {
  if (performance.now() - shownAt > CALM_MS) button?.click();
}

// -- Panels ----------------------------------------------------------------------------------------------------------

const panels = () => $$("#notes, #skip, #guidelines");

function open(panel, focus) {
  for (const other of panels()) other.open = other === panel;
  focus?.focus();
}

function closeAll() {
  const closed = panels().filter((panel) => panel.open);
  for (const panel of closed) panel.open = false;
  if (closed.length) (isRanking() ? marked() : $("#task-title")).focus();
}

function rememberGuidelines() {
  const { version, campaign } = $("#guidelines").dataset;
  try {
    const key = `guidelines:${campaign}`;
    if ($("#guidelines").open || !localStorage.getItem(key)) localStorage.setItem(key, version);
    $("#guidelines .changed").hidden = localStorage.getItem(key) === version;
  } catch { /* storage may be blocked: then nothing is marked as changed */ }
}

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-keys]")) $("#keys").showModal();
  if (event.target.closest("#keys [data-close]")) $("#keys").close();
  else if (event.target.closest("[data-close]")) closeAll();
  const button = event.target.closest("[data-move]");
  const letter = event.target.closest("[data-rank-next]");
  const card = (button || letter)?.closest(".answer-card");
  if (button) move(card, button.dataset.move === "up");
  if (letter) rankNext(card);
  if (card && event.detail) mark(card); // clicked with a pointer: Enter shall submit, not press this button again
  const outside = panels().filter((panel) => panel.open && !panel.contains(event.target));
  for (const panel of outside) panel.open = false;
});
document.addEventListener("toggle", (event) => { if (event.target.id === "guidelines") rememberGuidelines(); }, true);
document.addEventListener("change", (event) => {
  const card = event.target.closest?.(".answer-card");
  if (card) { showOrder(); sayPlace(card); }
});
document.addEventListener("focusin", (event) => {
  const card = isRanking() && event.target.closest?.(".answer-card");
  if (card) mark(card, false);
});

// -- Keys ------------------------------------------------------------------------------------------------------------

const COMMON = {
  f: () => open($("#notes"), $("#notes input")),
  r: () => open($("#notes"), $("#rationale")),
  s: () => open($("#skip"), $("#skip input:checked") || $("#skip input")),
  g: () => open($("#guidelines"), $(".drawer-body")),
  u: () => press($("#undo")),
  c: () => press($(UNSURE)),
  "?": () => $("#keys").showModal(),
};
const PAIR = {
  1: () => press($(".choice[value=A]")),
  2: () => press($(".choice[value=B]")),
  "=": () => press($(".choice[value=tie]")),
  t: () => press($(".choice[value=tie]")),
};
const RANKING = {
  j: () => markNext(1), ArrowRight: () => markNext(1),
  k: () => markNext(-1), ArrowLeft: () => markNext(-1),
  0: () => rankMarked(0), Backspace: () => rankMarked(0), Delete: () => rankMarked(0),
  Enter: () => press($(".submit")),
};

function actionFor(event) {
  const { key, target } = event;
  if (target.closest("dialog")) return null;
  if (key === "Escape") return closeAll;
  if ($("#skip")?.open && /^[1-9]$/.test(key) && target.type === "radio") {
    return () => $$("#skip input[type=radio]")[key - 1]?.click();
  }
  if (panels().some((panel) => panel.open)) return key === "g" && $("#guidelines").open ? closeAll : null; // reading is not answering
  if (target.closest("textarea, select, input:not([type=checkbox])")) return null;
  if (key === "Enter" && target.closest("button, a, summary, input")) return null;
  if (key.startsWith("Arrow") && target.closest(".context-body, .scroll")) return null; // these scroll
  if (!task().dataset.lease) return { u: COMMON.u, g: COMMON.g, Enter: () => press($("#next-form button")) }[key];
  if (COMMON[key]) return COMMON[key];
  if (!isRanking()) return PAIR[key];
  const rank = /^[1-9]$/.test(key) ? Number(key) : 0;
  if (rank && rank <= cards().length) return () => { if (performance.now() - shownAt > CALM_MS) rankMarked(rank); };
  return RANKING[key];
}

document.addEventListener("keydown", (event) => {
  if (event.repeat && event.key === "Enter") event.preventDefault();
  if (event.repeat || event.metaKey || event.isComposing) return;
  if (event.altKey) {
    const step = { ArrowUp: true, ArrowDown: false }[event.key];
    if (step === undefined || !task().dataset.lease || !isRanking()) return;
    event.preventDefault();
    move(marked(), step);
    mark(marked());
    return;
  }
  if (event.ctrlKey) {
    if (event.key === "Enter" && event.target.id === "rationale") press($(".submit"));
    return;
  }
  const action = actionFor(event);
  if (!action) return;
  event.preventDefault();
  action();
});

// -- Time and the lease ----------------------------------------------------------------------------------------------

let shownAt = 0;
let lastSign = 0;
let lastTick = performance.now();
for (const name of ["pointermove", "pointerdown", "keydown", "scroll", "wheel", "touchmove"]) {
  document.addEventListener(name, () => { lastSign = performance.now(); }, { capture: true, passive: true });
}
const isActive = () => document.visibilityState === "visible" && performance.now() - lastSign < IDLE_MS;
setInterval(() => {
  const now = performance.now();
  if (isActive()) activeMs += Math.min(now - lastTick, 1000);
  lastTick = now;
}, 250);

function post(path, options = {}) {
  const token = document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1] || $("#answer input[name=csrfmiddlewaretoken]").value;
  return fetch(path, { method: "POST", headers: { "X-CSRFToken": token }, ...options });
}

async function beat() {
  const path = task().dataset.heartbeat;
  if (!path || document.visibilityState !== "visible") return;
  const answer = await post(path).catch(() => null); // offline: the next beat will tell
  if (answer?.status === 409 && task().dataset.heartbeat === path) {
    problem("This item went back to the queue because the page was idle for long. You can still answer it.");
  }
}
setInterval(beat, HEARTBEAT_MS);
document.addEventListener("visibilitychange", beat);

addEventListener("pagehide", () => {
  if (task().dataset.release) post(task().dataset.release, { keepalive: true });
});
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

// -- A new item ------------------------------------------------------------------------------------------------------

function enhance() {
  for (const row of $$("#keys [data-for]")) {
    row.hidden = isRanking() ? row.dataset.for !== "ranking" : row.dataset.for !== "pair";
  }
  activeMs = 0;
  shownAt = performance.now();
  lastSign = shownAt;
  showOrder();
  if (isRanking()) mark(cards()[0], false);
  const context = $(".context-body");
  if (context && $$(".turn", context).length > 1) context.scrollTop = context.scrollHeight; // the last turn matters most
}

document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id !== "task" && event.detail.elt.id !== "task") return;
  enhance();
  fadeToast();
  const title = $("#task-title");
  title.focus({ preventScroll: true });
  scrollTo({ top: 0 });
  say(title.textContent);
});

enhance();
rememberGuidelines();
