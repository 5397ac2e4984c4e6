// What all parts of the annotator's screen reach for.
export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
export const task = () => $("#task");
export const isRanking = () => task().dataset.protocol === "ranking";
export const say = (text) => { $("#announce").textContent = text; };

export function problem(text) {
  const note = document.createElement("p");
  note.className = "notice warning";
  note.textContent = text;
  $("#task-problem").replaceChildren(note);
}
