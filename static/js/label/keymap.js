// Keys that the person has moved: {"s": "x"} means that x does what s does for others.
import { $, $$ } from "./dom.js";
import { save } from "./view.js";

const dialog = $("#keys");
const movable = dialog.dataset.movable.split(" ");
let moved = JSON.parse(dialog.dataset.moved);
let waiting = null; // the <kbd> whose new key is to be pressed

const placeOf = (key) => moved[key] ?? key;

// What the key that was pressed does. Null: what it did has been moved elsewhere.
export function meaningOf(key) {
  const from = Object.keys(moved).find((old) => moved[old] === key);
  return from ?? (key in moved ? null : key);
}

// Writes on buttons and in the list which keys they have now.
export function showKeys(root) {
  for (const kbd of $$("kbd", root)) {
    kbd.dataset.key ??= kbd.textContent.trim();
    const key = movable.includes(kbd.dataset.key) ? placeOf(kbd.dataset.key) : kbd.textContent;
    if (kbd.textContent !== key) kbd.textContent = key;
  }
}

const ofList = () => $$("dt kbd", dialog).filter((kbd) => movable.includes(kbd.dataset.key));
const deed = (kbd) => $("dd", kbd.closest("div")).textContent;
const complain = (text) => { $("#keys-problem").textContent = text; };

function setChanging(on) {
  $("[data-keys-change]").ariaPressed = String(on);
  for (const kbd of ofList()) {
    kbd.role = on ? "button" : null;
    kbd.ariaLabel = on ? `${placeOf(kbd.dataset.key)}: ${deed(kbd)}` : null;
    if (on) kbd.tabIndex = 0;
    else kbd.removeAttribute("tabindex");
  }
}

function ask(kbd) {
  waiting = kbd;
  kbd.textContent = "…";
  complain(dialog.dataset.press);
}

async function take(key) {
  const kbd = waiting;
  waiting = null;
  showKeys(dialog);
  const old = kbd.dataset.key;
  const taken = movable.find((other) => other !== old && placeOf(other) === key);
  if (taken) {
    const row = ofList().find((other) => other.dataset.key === taken);
    return complain(dialog.dataset.taken.replace("{key}", key).replace("{deed}", row ? deed(row) : taken));
  }
  const before = moved;
  moved = { ...moved, [old]: key };
  if (key === old) delete moved[old];
  if (!await save("keys", JSON.stringify(moved))) moved = before;
  complain("");
  setChanging(true);
  showKeys(document);
}

dialog.addEventListener("click", async (event) => {
  if (event.target.closest("[data-keys-change]")) setChanging($("[data-keys-change]").ariaPressed !== "true");
  if (event.target.matches("kbd[role=button]")) ask(event.target);
  if (event.target.closest("[data-keys-reset]") && await save("keys", "{}")) { moved = {}; showKeys(document); }
});
dialog.addEventListener("keydown", (event) => {
  if (waiting) {
    if (event.key.length > 1 && event.key !== "Escape") return; // Shift and the like
    event.preventDefault();
    if (event.key === "Escape") { waiting = null; showKeys(dialog); complain(""); } else take(event.key);
  } else if (["Enter", " "].includes(event.key) && event.target.matches("kbd[role=button]")) {
    event.preventDefault();
    ask(event.target);
  }
});
