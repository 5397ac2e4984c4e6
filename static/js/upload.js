// Shows how far an upload is. Without it the plain form does the same, silently.
const form = document.getElementById("upload");
const bar = document.getElementById("upload-progress");
const state = document.getElementById("upload-state");

function errorIn(html) {
  const page = new DOMParser().parseFromString(html, "text/html");
  return page.querySelector("#upload .errorlist")?.textContent.trim() || "The file was refused.";
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const request = new XMLHttpRequest();
  const button = form.querySelector("button");
  const fail = (text) => { state.textContent = text; bar.hidden = true; button.disabled = false; };
  request.upload.addEventListener("progress", ({ loaded, total }) => {
    bar.value = loaded / total;
    state.textContent = loaded < total ? `${Math.floor((100 * loaded) / total)} %` : "Reading the lines …";
  });
  request.addEventListener("load", () => {
    if (request.status === 200) location.assign(request.responseURL); // followed the redirect to the report
    else if (request.status === 422) fail(errorIn(request.responseText));
    else fail(`The server answered with an error (${request.status}). Nothing was lost; try again.`);
  });
  request.addEventListener("error", () => fail("The server could not be reached. What arrived is kept; try again."));
  bar.hidden = false;
  button.disabled = true;
  request.open("POST", form.action);
  request.send(new FormData(form));
});
