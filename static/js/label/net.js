// Requests that htmx does not make, and what comes of them.
const UNREACHABLE = [502, 503, 504]; // said by a proxy while the server behind it starts

export function post(path, { headers = {}, ...options } = {}) {
  const token = document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1] || document.querySelector("#task [name=csrfmiddlewaretoken]")?.value;
  return fetch(path, { method: "POST", headers: { "X-CSRFToken": token, ...headers }, ...options });
}

// Parts of this page. Null: the server cannot be reached.
export async function postForParts(path, options) {
  const answer = await post(path, { headers: { "HX-Request": "true" }, ...options }).catch(() => null);
  if (!answer || UNREACHABLE.includes(answer.status)) return null;
  const signedOut = new URL(answer.url).pathname.startsWith("/accounts/login");
  return { status: signedOut ? 401 : answer.status, parts: parse(await answer.text().catch(() => "")) };
}

function parse(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content;
}
