// The overview of a campaign follows the work: a push says that something changed, htmx fetches that part again.
// At most one fetch in two seconds; without the socket the page asks every 20 seconds by itself.
import { connect } from "./live.js";

const PAUSE_MS = 2000;
const live = () => document.getElementById("live");
let due = 0;

function refresh() {
  if (due) return;
  due = setTimeout(() => {
    due = 0;
    window.htmx.trigger(live(), "refresh");
  }, PAUSE_MS);
}

connect(`/ws/campaigns/${live().dataset.campaign}/`, { onMessage: refresh });
