// Shows what a chosen file would bring, and how far an upload is. Without it the plain form does the same, silently.
import { gettext } from "./i18n.js";

const form = document.getElementById("upload");
const bar = document.getElementById("upload-progress");
const state = document.getElementById("upload-state");
const file = form.elements.file;
const BEGINNING = 1024 * 1024; // bytes that are enough to preview any file but Parquet, which has its description last
let latest = 0;

function errorIn(html) {
  const page = new DOMParser().parseFromString(html, "text/html");
  return page.querySelector("#upload .errorlist")?.textContent.trim() || gettext("The file was refused.");
}

async function preview() {
  const chosen = file.files[0];
  const mine = ++latest;
  if (!chosen) return;
  const data = new FormData(form);
  data.set("preview", "1");
  if (chosen.size > BEGINNING && !/\.parquet$/i.test(chosen.name)) {
    data.set("file", chosen.slice(0, BEGINNING), chosen.name);
    data.set("cut", "1");
  }
  const response = await fetch(form.action, { method: "POST", body: data }).catch(() => null);
  const html = await response?.text();
  if (mine !== latest) return; // another file or format was chosen meanwhile
  const shown = html && new DOMParser().parseFromString(html, "text/html").getElementById("preview");
  if (!response?.ok || !shown) {
    state.textContent = response?.status === 422 ? errorIn(html) : gettext("There is no preview now; importing may work all the same.");
    return;
  }
  state.textContent = shown.querySelector("h3")?.textContent ?? "";
  const focused = document.activeElement?.id;
  document.getElementById("preview").replaceChildren(...shown.childNodes);
  if (focused) document.getElementById(focused)?.focus();
}

form.addEventListener("change", preview);

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (event.submitter?.name === "preview") {
    preview();
    return;
  }
  latest += 1; // a preview that comes now is too late
  const request = new XMLHttpRequest();
  const button = form.querySelector("button.primary");
  const fail = (text) => { state.textContent = text; bar.hidden = true; button.disabled = false; };
  request.upload.addEventListener("progress", ({ loaded, total }) => {
    bar.value = loaded / total;
    state.textContent = loaded < total ? `${Math.floor((100 * loaded) / total)} %` : gettext("Reading the lines …");
  });
  request.addEventListener("load", () => {
    if (request.status === 200) location.assign(request.responseURL); // followed the redirect to the report
    else if (request.status === 422) fail(errorIn(request.responseText));
    else fail(gettext("The server answered with an error ({status}). Nothing was lost; try again.", { status: request.status }));
  });
  request.addEventListener("error", () => fail(gettext("The server could not be reached. What arrived is kept; try again.")));
  bar.hidden = false;
  button.disabled = true;
  request.open("POST", form.action);
  request.send(new FormData(form));
});
