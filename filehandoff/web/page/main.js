/** The page's start: the token, if the service asks for one, and the three sections. */

import { authentication, framework, otherApp, useToken } from "./api.js";
import { showCauses } from "./causes.js";
import { loadChoices } from "./choices.js";
import { byId } from "./dom.js";
import { watchInputs } from "./files.js";
import { showGrid } from "./grid.js";
import { watchUploads } from "./upload.js";

const LIBRARIES = { flask: "Flask with boto3", quart: "Quart with aioboto3" };

async function load() {
  try {
    await loadChoices();
    byId("trouble").hidden = true;
  } catch (error) {
    byId("trouble").hidden = false;
    byId("trouble").textContent = error.message;
    return;
  }
  showGrid();
}

/** `<base>` makes a link to a section of the page a link to `/`: stay here, and move the focus. */
function watchSections() {
  for (const link of document.querySelectorAll("[data-section]")) {
    const target = byId(new URL(link.href).hash.slice(1));
    link.addEventListener("click", (event) => {
      event.preventDefault();
      target.focus({ preventScroll: true });
      target.scrollIntoView();
    });
  }
}

byId("framework").textContent = LIBRARIES[framework] ?? framework;
byId("both").hidden = !otherApp;
byId("identity").hidden = authentication === "none";
byId("identity").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken(byId("token").value);
  byId("token-note").textContent = "The page sends this token with each request, until you close or reload the page.";
  load();
});
watchSections();
watchInputs();
watchUploads();
showCauses();
load();
