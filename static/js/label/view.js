// How the screen looks: text size, layout, raw text, differences. Kept with the account.
import { toast } from "../toast.js";
import { $, $$ } from "./dom.js";
import { post } from "./net.js";

const MADE_BY_SERVER = ["raw", "diff"];

export async function save(name, value) {
  const form = $("#view-form");
  const answer = await post(form.action, { headers: { "HX-Request": "true" }, body: new URLSearchParams({ [name]: value }) }).catch(() => null);
  if (!answer?.ok) toast(answer?.status === 422 ? await answer.text() : form.dataset.failed);
  return Boolean(answer?.ok);
}

function show() {
  const chosen = new FormData($("#view-form"));
  for (const part of ["text_size", "layout"]) document.body.dataset[part === "layout" ? "layout" : "textSize"] = chosen.get(part);
  document.body.dataset.wrap = chosen.getAll("wrap").at(-1);
  showTabs();
}

document.addEventListener("change", async (event) => {
  const { form, name, type, checked, value } = event.target;
  if (form?.id !== "view-form") return;
  show();
  if (await save(name, type === "checkbox" ? (checked ? value : "") : value) && MADE_BY_SERVER.includes(name)) location.reload();
});

document.addEventListener("click", (event) => { if (event.target.closest("[data-diff]")) toggleDiff(); });

export function toggleDiff() {
  $("#view-form input[name=diff][type=checkbox]").click();
}

// -- One answer at a time ------------------------------------------------------------------------------------------------

const cards = () => $$(".answer-card");

// Shows one card and hides the others, where that layout is chosen.
export function showTabs(current = cards()[0]) {
  const on = document.body.dataset.layout === "tabs" && cards().length > 0;
  $("#card-tabs")?.remove();
  for (const card of cards()) card.hidden = on && card !== current;
  if (!on) return;
  const bar = document.createElement("div");
  bar.id = "card-tabs";
  bar.role = "group";
  bar.ariaLabel = $("#view-form").dataset.tabs;
  for (const card of cards()) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "button small";
    button.textContent = card.dataset.label;
    button.ariaPressed = String(card === current);
    button.addEventListener("click", () => { showTabs(card); $(`#card-tabs [aria-pressed=true]`).focus(); });
    bar.append(button);
  }
  $(".cards").before(bar);
}

export function turnTab(step) {
  const all = cards();
  const at = all.findIndex((card) => !card.hidden);
  showTabs(all[(at + step + all.length) % all.length]);
}
