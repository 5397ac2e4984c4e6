import { gettext } from "./i18n.js";
import { refusal, toast } from "./toast.js";

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

// The token of the cookie is always the current one: signing in again in another tab changes it, and a page that was
// open before would be refused with the one it was made with.
document.addEventListener("htmx:configRequest", (event) => {
  const token = document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1];
  if (!token) return;
  event.detail.headers["X-CSRFToken"] = token;
  event.detail.parameters.delete?.("csrfmiddlewaretoken");
});
// Signed out meanwhile: the answer is the sign-in page, which must not replace what was entered.
document.addEventListener("htmx:beforeSwap", (event) => {
  if (!new URL(event.detail.xhr.responseURL || location.href).pathname.startsWith("/accounts/login")) return;
  event.detail.shouldSwap = false;
  toast(refusal(401));
});
// A request that failed without a page of its own says so, in words.
document.addEventListener("htmx:sendError", () => toast(gettext("The server cannot be reached. Your work is still on this page; try again.")));
document.addEventListener("htmx:responseError", (event) => {
  toast(refusal(event.detail.xhr.status));
});

// Buttons that ask before they act: <button data-confirm="Close this campaign?">
document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.confirm;
  if (question && !window.confirm(question)) event.preventDefault();
});

// Copy a text that is shown once: <button data-copy="#id-of-its-input">
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const input = document.querySelector(button.dataset.copy);
  input.select(); // on a plain HTTP site there is no clipboard to write to: then it is marked, ready for Ctrl-C
  try { await navigator.clipboard.writeText(input.value); } catch { return; }
  document.getElementById("announce").textContent = gettext("Copied");
  button.textContent = gettext("Copied");
});

// On a phone the tab one is on may lie outside of the row.
document.querySelector(".tabs [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
