// What opens over the item: guidelines, flags and note, skip, keys.
import { restingPlace } from "./answer.js";
import { $, $$ } from "./dom.js";

export const panels = () => $$("#notes, #skip, #guidelines, #view");

export function open(panel, focus) {
  for (const other of panels()) other.open = other === panel;
  focus?.focus();
}

export function closeAll() {
  const closed = panels().filter((panel) => panel.open);
  for (const panel of closed) panel.open = false;
  if (closed.length) restingPlace().focus();
}

export function rememberGuidelines() {
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
  const outside = panels().filter((panel) => panel.open && !panel.contains(event.target));
  for (const panel of outside) panel.open = false;
});
document.addEventListener("toggle", (event) => { if (event.target.id === "guidelines") rememberGuidelines(); }, true);
