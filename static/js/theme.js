// Runs before the first paint, so that a chosen colour scheme never flashes the other one, and what only serves
// browsers without JavaScript (.plain-only) is never seen.
(() => {
  document.documentElement.classList.add("js");
  const apply = (value) => {
    if (value) document.documentElement.dataset.theme = value;
    else delete document.documentElement.dataset.theme;
  };
  let stored = null;
  try { stored = localStorage.getItem("theme"); } catch { /* storage may be blocked */ }
  apply(stored);
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-theme-toggle]")) return;
    const order = ["", "light", "dark"];
    const next = order[(order.indexOf(document.documentElement.dataset.theme || "") + 1) % order.length];
    apply(next);
    try { localStorage.setItem("theme", next); } catch { /* the choice then lasts for this page */ }
    const announce = document.getElementById("announce");
    const gettext = globalThis.django?.gettext ?? String;
    const said = { "": gettext("Colour scheme: as the system"), light: gettext("Colour scheme: light"), dark: gettext("Colour scheme: dark") };
    if (announce) announce.textContent = said[next];
  });
})();
