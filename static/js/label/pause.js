// A pause, the time worked since the page was opened, and a word to whoever is faster than anybody reads.
import { $, task } from "./dom.js";
import { activeTime, setPaused, workedTime } from "./time.js";

const MS_PER_WORD = 30; // 2,000 words a minute
const FEW_WORDS = 60;
const NOTE_MS = 10_000;

let noteTimer = 0;

export function pause() {
  setPaused(true);
  $("#paused").showModal();
}
$("#paused").addEventListener("close", () => setPaused(false));

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-pause]")) pause();
  if (event.target.closest("[data-go-on]")) $("#paused").close();
});

function showTime() {
  const minutes = Math.floor(workedTime() / 60_000);
  $("#worked").textContent = `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}`;
}
setInterval(showTime, 10_000);
showTime();

document.addEventListener("submit", (event) => {
  if (event.target.id !== "answer" || event.defaultPrevented) return;
  const words = (task().querySelector(".workspace")?.textContent.match(/\S+/g) || []).length;
  $("#pace").hidden = words < FEW_WORDS || activeTime() > words * MS_PER_WORD;
  clearTimeout(noteTimer);
  noteTimer = setTimeout(() => { $("#pace").hidden = true; }, NOTE_MS);
});
