// How the screen looks: text size, layout, raw text, differences. Kept with the account.
import { toast } from "../toast.js";
import { $ } from "./dom.js";
import { layOut } from "./layout.js";
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
  layOut();
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
