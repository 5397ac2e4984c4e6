// Texts of scripts in the language of the page. English is in the code; others come as Django's catalogue.
export function gettext(text, values = {}) {
  const translated = globalThis.django?.gettext ? globalThis.django.gettext(text) : text;
  return translated.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}
