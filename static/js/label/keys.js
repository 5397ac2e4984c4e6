// Every action has a key.
import { answerAction, moveMarked, pickAction, submit, turn } from "./answer.js";
import { $, $$, task } from "./dom.js";
import { meaningOf } from "./keymap.js";
import { closeAll, open, panels } from "./panels.js";
import { pause } from "./pause.js";
import { press } from "./time.js";
import { toggleDiff } from "./view.js";

const COMMON = {
  f: () => open($("#notes"), $("#notes input")),
  r: () => open($("#rationale")?.closest(".panel"), $("#rationale")),
  s: () => open($("#skip"), $("#skip input:checked") || $("#skip input")),
  g: () => open($("#guidelines"), $(".drawer-body")),
  u: () => press($("#undo")),
  d: toggleDiff,
  "[": () => turn(-1),
  "]": () => turn(1),
  p: pause,
  h: () => $("#history").click(),
  "?": () => $("#keys").showModal(),
};
function actionFor(event) {
  const { target } = event;
  const key = meaningOf(event.key);
  if (key === null) return null;
  if (target.closest("dialog")) return null;
  if (key === "Escape") return closeAll;
  if ($("#skip")?.open && /^[1-9]$/.test(key) && target.type === "radio") {
    return () => $$("#skip input[type=radio]")[key - 1]?.click();
  }
  if (panels().some((panel) => panel.open)) return key === "g" && $("#guidelines").open ? closeAll : null; // reading is not answering
  if (target.closest("[data-pick]") && /^[0-9]$/.test(key)) return pickAction(key, target);
  if (target.closest("textarea, select, input:not([type=checkbox])")) return null;
  if (key === "Enter" && target.closest("button, a, summary, input")) return null;
  if (key.startsWith("Arrow") && target.closest(".context-body, .scroll")) return null; // these scroll
  if (!task().dataset.lease) return { u: COMMON.u, g: COMMON.g, Enter: () => press($("#next-form button")) }[key];
  return COMMON[key] || answerAction(key);
}

document.addEventListener("keydown", (event) => {
  if (event.repeat && event.key === "Enter") event.preventDefault();
  if (event.repeat || event.metaKey || event.isComposing) return;
  if (event.altKey) {
    const step = { ArrowUp: true, ArrowDown: false }[event.key];
    if (step === undefined || !task().dataset.lease) return;
    event.preventDefault();
    moveMarked(step);
    return;
  }
  if (event.ctrlKey) {
    if (event.key === "Enter" && event.target.id === "rationale") submit();
    return;
  }
  const action = actionFor(event);
  if (!action) return;
  event.preventDefault();
  action();
});
