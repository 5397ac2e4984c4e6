// Small behaviours every page shares. Pages work without it.

// One menu open at a time; Escape and a click elsewhere close it.
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

// A request that failed without a page of its own says so, in words.
export function toast(text, kind = "error") {
  const area = document.getElementById("toast");
  const note = document.createElement("p");
  note.className = `notice ${kind}`;
  note.setAttribute("role", "alert");
  note.textContent = text;
  area.replaceChildren(note);
  setTimeout(() => note.remove(), 8000);
}
document.addEventListener("htmx:sendError", () => toast("The server cannot be reached. Your work is still on this page; try again."));
document.addEventListener("htmx:responseError", (event) => {
  const status = event.detail.xhr.status;
  if (status === 403) toast("Your session changed in another tab. Reload the page and try again.");
  else if (status === 404) toast("This is not there any more. Reload the page.");
  else toast(`The server answered with an error (${status}). Nothing was lost; try again.`);
});

// Buttons that ask before they act: <button data-confirm="Close this campaign?">
document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.confirm;
  if (question && !window.confirm(question)) event.preventDefault();
});

// Copy a text that is shown once: <button data-copy="#id-of-element">
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(document.querySelector(button.dataset.copy).textContent.trim());
  document.getElementById("announce").textContent = "Copied";
  button.textContent = "Copied";
});
