// A short note at the bottom of the page that goes away by itself.
import { gettext } from "./i18n.js";

let timer = 0;

export function toast(text, kind = "error") {
  const note = document.createElement("p");
  note.className = `notice ${kind}`;
  note.setAttribute("role", kind === "error" ? "alert" : "status");
  note.textContent = text;
  document.getElementById("toast").replaceChildren(note);
  fadeToast();
}

// Starts the time of the note that is shown, for instance one that came with a page fragment.
export function fadeToast(after = 10000) {
  clearTimeout(timer);
  timer = setTimeout(() => document.getElementById("toast").replaceChildren(), after);
}

// What to say when the server refused, by its status; 401 stands for the sign-in page.
export function refusal(status) {
  return {
    401: gettext("You are signed out. Sign in in another tab, then do this again: what you entered is still here."),
    403: gettext("Your session changed in another tab. Reload the page and try again."),
    404: gettext("This is not there any more. Reload the page."),
  }[status] || gettext("The server answered with an error ({status}). Nothing was lost; try again.", { status });
}
