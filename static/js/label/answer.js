// What a person answers: ranks, choices, and their keys. The form works without any of this; here it becomes quick.
// The rank menus are the only state. Everything else is read from them.
import { gettext } from "../i18n.js";
import { $, $$, isRanking, problem, say } from "./dom.js";
import { markRanked, neighbour, reveal } from "./layout.js";
import { activeTime, isCalm, press } from "./time.js";

const UNSURE = "button[value=cannot_tell]";

// -- Ranks ---------------------------------------------------------------------------------------------------------------

const NO_RANKS = matchMedia("(hover: hover)").matches
  ? gettext("No ranks yet: press numbers, or pick the letters from best to worst")
  : gettext("No ranks yet: pick the letters, best first");
const NO_RANKS_ONE_AT_A_TIME = gettext("No ranks yet: give each answer its rank"); // there, letters above only switch
const cards = () => $$(".answer-card");
const menu = (card) => $("select", card);
const rankOf = (card) => Number(menu(card).value);
const letters = (some) => some.map((card) => card.dataset.label);
const unranked = () => cards().filter((card) => !rankOf(card));

function tiers() {
  const ranks = [...new Set(cards().map(rankOf).filter(Boolean))].sort((a, b) => a - b);
  return ranks.map((rank) => cards().filter((card) => rankOf(card) === rank));
}

const noRanks = () => ($("#card-tabs") ? NO_RANKS_ONE_AT_A_TIME : NO_RANKS);

function orderText() {
  const order = tiers().map((tier) => letters(tier).join(" = ")).join(" > ");
  const rest = letters(unranked()).join(", ");
  return order ? order + (rest ? ` · ${gettext("{letters} unranked", { letters: rest })}` : "") : noRanks();
}

function showOrder() {
  const order = $("#order");
  if (!order) return;
  order.textContent = orderText();
  for (const card of cards()) card.classList.toggle("ranked", rankOf(card) > 0);
  markRanked();
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
  if (place < 0) return say(`${gettext("{letter} has no rank.", { letter })} ${orderText()}`);
  const others = letters(tiers()[place]).filter((other) => other !== letter);
  const level = gettext("{letter} is {rank}, level with {others}.", { letter, rank: place + 1, others: others.join(gettext(" and ")) });
  say(`${others.length ? level : gettext("{letter} is {rank}.", { letter, rank: place + 1 })} ${orderText()}`);
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

// -- The marked card (roving focus) --------------------------------------------------------------------------------------

const marked = () => $(".answer-card[tabindex='0']:not([hidden])") || $(".answer-card:not([hidden])");

function mark(card, focus = true) {
  for (const other of cards()) other.tabIndex = other === card ? 0 : -1;
  if (!focus) return;
  const turned = reveal(card);
  card.focus({ preventScroll: true });
  if (turned) return; // that has a place of its own
  const fits = card.offsetHeight < 0.6 * innerHeight;
  card.scrollIntoView({ block: fits ? "nearest" : "start" }); // of a long one, its beginning
}

function markNext(step) {
  if (!document.activeElement.closest(".answer-card")) return mark(marked());
  const all = cards();
  mark(all[(all.indexOf(marked()) + step + all.length) % all.length]);
}

// To the next or the previous answer, where one is shown at a time.
export function turn(step) {
  const card = neighbour(step);
  if (!card) return;
  reveal(card);
  if (isRanking()) mark(card);
}

function rankMarked(rank) {
  const card = marked();
  setRank(card, rank);
  const all = cards();
  const at = all.indexOf(card);
  const next = rank ? [...all.slice(at + 1), ...all.slice(0, at)].find((other) => !rankOf(other)) : null;
  mark(next || card);
}

// Where the focus goes when nothing else claims it.
export const restingPlace = () => (isRanking() ? marked() : $("#task-title"));

// -- Submitting ----------------------------------------------------------------------------------------------------------

const partial = () => $("#answer").elements.partial; // not where everything is to be ranked

function setPartial(on) {
  if (partial()) partial().checked = on;
}

// Before htmx sees it: complete answers go, partial ones are asked about once.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.id !== "answer") return;
  form.elements.active_ms.value = activeTime();
  if (!isRanking() || event.submitter?.matches(UNSURE)) return;
  const missing = unranked();
  const names = { letters: letters(missing).join(", ") };
  const stop = (text) => { problem(text); event.preventDefault(); event.stopPropagation(); };
  if (missing.length && !partial()) stop(gettext("{letters}: no rank yet. Please rank all of them.", names));
  else if (cards().length - missing.length < 2) stop($(UNSURE) ? gettext("Rank at least two answers, or say that you can’t tell.") : gettext("Rank at least two answers."));
  else if (missing.length && !partial().checked) {
    stop(gettext("{letters}: no rank yet. Press Enter or Submit again to leave them unranked.", names));
    setPartial(true);
  }
}, true);

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-move]");
  const letter = event.target.closest("[data-rank-next]");
  const card = (button || letter)?.closest(".answer-card");
  if (!card) return;
  if (button) move(card, button.dataset.move === "up");
  else rankNext(card);
  if (event.detail) mark(card); // clicked with a pointer: Enter shall submit, not press this button again
});
document.addEventListener("change", (event) => {
  const card = event.target.closest?.(".answer-card");
  if (card && event.target === menu(card)) { showOrder(); sayPlace(card); }
});
document.addEventListener("focusin", (event) => {
  const card = isRanking() && event.target.closest?.(".answer-card");
  if (card) mark(card, false);
});

// -- Keys ----------------------------------------------------------------------------------------------------------------

const ANY = { c: () => press($(UNSURE)), q: () => nextPick(null), e: () => nextEdit() };
const ALIASES = { t: "=" };
const RANKING = {
  j: () => markNext(1), ArrowRight: () => markNext(1),
  k: () => markNext(-1), ArrowLeft: () => markNext(-1),
  0: () => rankMarked(0), Backspace: () => rankMarked(0), Delete: () => rankMarked(0),
  Enter: () => submit(),
};

// -- Questions -----------------------------------------------------------------------------------------------------------

// A digit in a group of options picks one, and goes on to the next group where nothing is picked.
export function pickAction(key, target) {
  const group = target.closest("[data-pick]");
  const input = group && $(`input[data-key="${CSS.escape(key)}"]`, group);
  return input && (() => { input.click(); nextPick(group); });
}

function nextPick(group) {
  const all = $$("[data-pick]");
  const at = all.indexOf(group) + 1;
  const open = [...all.slice(at), ...all.slice(0, at)].find((other) => !$("input:checked", other));
  if (open) reveal(open);
  (open ? $("input", open) : restingPlace()).focus();
}

function nextEdit() {
  const texts = $$(".answer-questions textarea");
  const next = texts[(texts.indexOf(document.activeElement) + 1) % texts.length];
  if (!next) return;
  reveal(next);
  next.closest("details").open = true;
  next.focus();
}

// Conversations that go on alike for a while: to where they part.
export function showDifference() {
  $(".aligned .differs")?.scrollIntoView({ block: "nearest" });
}

// What a key does to the answer, if anything.
export function answerAction(key) {
  if (key in ANY) return ANY[key];
  if (!isRanking()) {
    const button = $(`.choices [data-key="${CSS.escape(ALIASES[key] || key)}"]`);
    return button && (() => press(button));
  }
  const rank = /^[1-9]$/.test(key) ? Number(key) : 0;
  if (rank && rank <= cards().length) return () => { if (isCalm()) rankMarked(rank); };
  return RANKING[key];
}

export function moveMarked(up) {
  if (!isRanking()) return;
  move(marked(), up);
  mark(marked());
}

export const submit = () => press($(".submit"));

// A new item is shown.
export function startAnswer() {
  showOrder();
  if (isRanking()) mark(cards()[0], false);
}
