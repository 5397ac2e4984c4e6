// The annotator's screen. Everything works as plain forms; these modules make it quick.
import { fadeToast } from "../toast.js";
import { showDifference, startAnswer } from "./answer.js";
import { $, $$, isRanking, say } from "./dom.js";
import { restoreDraft } from "./drafts.js";
import { showKeys } from "./keymap.js";
import "./keys.js";
import { layOut, watchBar } from "./layout.js";
import "./lease.js";
import { rememberGuidelines } from "./panels.js";
import * as steps from "./steps.js";
import { restartTime } from "./time.js";

function begin() {
  restoreDraft();
  layOut();
  watchBar();
  showKeys($("#task"));
  for (const row of $$("#keys [data-for]")) {
    row.hidden = isRanking() ? row.dataset.for !== "ranking" : row.dataset.for !== "pair";
  }
  restartTime();
  startAnswer();
  const context = $(".context-body");
  if (context && $$(".turn", context).length > 1) context.scrollTop = context.scrollHeight; // the last turn matters most
}

function shown() {
  begin();
  const title = $("#task-title");
  title.focus({ preventScroll: true });
  scrollTo({ top: 0 });
  showDifference();
  say(title.textContent);
}

document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id !== "task" && event.detail.elt.id !== "task") return;
  shown();
  steps.replaced();
  fadeToast();
});

showKeys(document);
begin();
rememberGuidelines();
steps.start(shown);
