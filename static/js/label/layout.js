// One answer at a time, where that is chosen or, on a narrow screen, where the answers are long. Letters above the answer
// switch; each answer keeps the place to which it was read.
import { $, $$ } from "./dom.js";

const LONG = 1.25; // screens: shorter ones are compared more easily below one another
const narrow = matchMedia("(max-width: 44rem)");
const belowPrompt = matchMedia("(max-width: 64rem)"); // as in label.css: there the prompt stays at the top
const cards = () => $$(".answer-card");
const places = new WeakMap();

const isLong = () => narrow.matches && $(".cards").offsetHeight > LONG * innerHeight;

// For a new item, or a screen that has changed.
export function layOut() {
  $("#card-tabs")?.remove();
  for (const card of cards()) card.hidden = false;
  const { layout } = document.body.dataset;
  if (!cards().length || !(layout === "tabs" || (layout === "auto" && isLong()))) return;
  const tabs = document.createElement("div");
  tabs.id = "card-tabs";
  tabs.role = "group";
  tabs.ariaLabel = $("#view-form").dataset.tabs;
  tabs.append(...cards().map(tabOf));
  const context = belowPrompt.matches && $(".context");
  if (context) context.append(tabs);
  else $(".cards").before(tabs);
  show(cards()[0]);
  markRanked();
}
for (const media of [narrow, belowPrompt]) media.addEventListener("change", layOut);

function tabOf(card) {
  const tab = document.createElement("button");
  tab.type = "button";
  tab.className = "button small";
  tab.textContent = card.dataset.label;
  tab.addEventListener("click", () => reveal(card));
  return tab;
}

function show(card) {
  for (const other of cards()) other.hidden = other !== card;
  for (const tab of $$("#card-tabs button")) tab.ariaPressed = String(tab.textContent === card.dataset.label);
}

// The letters tell which answers have a rank.
export function markRanked() {
  const all = cards();
  $$("#card-tabs button").forEach((tab, index) => tab.classList.toggle("ranked", all[index].classList.contains("ranked")));
}

// Shows the card that an element lies in, and says whether it was hidden. One not read yet begins below the letters.
export function reveal(element) {
  const card = element.closest(".answer-card");
  if (!card?.hidden) return false;
  places.set(cards().find((other) => !other.hidden), scrollY);
  show(card);
  const start = scrollY + $(".cards").getBoundingClientRect().top - $("#card-tabs").getBoundingClientRect().bottom;
  scrollTo({ top: places.get(card) ?? Math.min(scrollY, start) });
  return true;
}

// What is still required may be on a card that is hidden. The browser goes to the first of what is missing.
document.addEventListener("invalid", (event) => {
  if ([...event.target.form.elements].find((input) => !input.validity.valid) === event.target) reveal(event.target);
}, true);

// The card after (or before) the one that is shown; undefined where all are.
export function neighbour(step) {
  const all = cards();
  const at = all.findIndex((card) => !card.hidden);
  return $("#card-tabs") ? all[(at + step + all.length) % all.length] : undefined;
}

// How much of the page lies under the answer bar: notes appear above it, and what has the focus is never behind it.
let height = "";
const watch = new ResizeObserver(([{ target }]) => {
  const now = `${target.offsetHeight}px`;
  if (now === height) return; // setting it again would style the whole page again
  height = now;
  document.documentElement.style.setProperty("--bar", now);
});

export function watchBar() {
  watch.disconnect();
  const bar = $(".answer-bar");
  if (bar) watch.observe(bar);
}
