/** The chosen files: by two inputs, or dropped, also as a folder. */

import { byId, count, size } from "./dom.js";

export const chosen = [];
const listeners = [];

/** Call this whenever the files change. */
export function whenChosen(listener) {
  listeners.push(listener);
}

/** The first file, for the causes and the grid; without one, a short text. */
export function firstFile() {
  return chosen[0] ?? new File(["hello, S3\n"], "hello.txt", { type: "text/plain" });
}

export function choose(files) {
  chosen.splice(0, chosen.length, ...files);
  const bytes = chosen.reduce((sum, file) => sum + file.size, 0);
  const names = chosen.slice(0, 3).map((file) => file.webkitRelativePath || file.name);
  const more = chosen.length > names.length ? `, and ${chosen.length - names.length} more` : "";
  byId("chosen").textContent = chosen.length
    ? `${count(chosen.length, "file")}, ${size(bytes)}: ${names.join(", ")}${more}`
    : "No file is chosen.";
  for (const listener of listeners) listener();
}

export function watchInputs() {
  const inputs = [byId("files"), byId("folder")];
  for (const input of inputs) {
    input.addEventListener("change", () => {
      for (const other of inputs) if (other !== input) other.value = "";
      choose(input.files);
    });
  }
  byId("forget").addEventListener("click", () => {
    for (const input of inputs) input.value = "";
    choose([]);
    byId("files").focus();
  });
  watchDrops(byId("drop"));
}

function watchDrops(zone) {
  let depth = 0; // enter and leave come for each child as well
  const mark = (change) => {
    depth = Math.max(0, depth + change);
    zone.classList.toggle("over", depth > 0);
  };
  // Anywhere on the page: a file that is dropped beside the zone would replace the page.
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("dragenter", () => mark(1));
  document.addEventListener("dragleave", () => mark(-1));
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    mark(-depth);
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const files = entries.length ? (await Promise.all(entries.map(filesOf))).flat() : [...event.dataTransfer.files];
    if (files.length) choose(files);
  });
}

/** All files of an entry of the file system, which may be a folder. */
async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    for (const child of some) found.push(...(await filesOf(child)));
  }
}
