// A short note at the bottom of the page that goes away by itself.
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
