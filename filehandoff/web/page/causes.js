/** The section "Who closed the file": run a cause, and draw the moments that the explainer saw. */

import { call, framework } from "./api.js";
import { announce, byId, element, milliseconds, prose } from "./dom.js";
import { firstFile } from "./files.js";
import { facts, problemBox } from "./upload.js";

const NAMES = { flask: "Flask", quart: "Quart" };

export async function showCauses() {
  const causes = await call("page/fixes.json");
  byId("cause-list").replaceChildren(...Object.entries(causes).map(([name, cause]) => card(name, cause)));
}

function card(name, cause) {
  const result = element("div", { className: "result", "aria-live": "polite" });
  const button = element("button", { type: "button", className: "primary" }, "Run it");
  button.setAttribute("aria-label", `Run it: ${cause.title}`);
  button.addEventListener("click", () => run(name, button, result));
  return element(
    "article",
    { className: "card cause", id: `cause-${name}` },
    element("h3", {}, cause.title),
    element("p", {}, ...withLinks(cause.explanation)),
    element("p", { className: "row" }, button),
    element("div", { className: "beside" }, result, fix(cause.code)),
  );
}

/** A text whose addresses are links. */
function withLinks(text) {
  return text.split(/(https:\/\/[^\s)]+)/).map((part, index) => {
    if (index % 2 === 0) return part;
    const [, , , owner, project, , number] = part.split("/");
    return element("a", { href: part, rel: "noreferrer" }, `${owner}/${project}#${number}`);
  });
}

async function run(name, button, result) {
  if (button.ariaDisabled) return;
  const file = firstFile();
  const form = new FormData();
  form.append("file", file, file.name);
  button.ariaDisabled = "true"; // a disabled button would lose the keyboard's focus
  result.replaceChildren(element("p", { className: "note" }, `Running on ${file.name} …`));
  try {
    const report = await call(`causes/${name}`, { method: "POST", body: form });
    result.replaceChildren(...timeline(report, file));
    announce(report.closed ? `The file was closed by ${report.closed_by}` : "The file was still open.");
  } catch (error) {
    result.replaceChildren(problemBox(error));
  } finally {
    button.ariaDisabled = null;
  }
}

function timeline(report, file) {
  const verdict = report.closed
    ? element("p", { className: "message bad" }, element("strong", {}, "Lost. "), `${file.name} was closed before its last read.`)
    : element("p", { className: "message good" }, element("strong", {}, "Not closed. "), report.explanation.split(". ")[0], ".");
  return [verdict, element("ol", { className: "timeline" }, ...moments(report)), remedy(report)];
}

function moments(report) {
  let open = true;
  return report.events.map((event) => {
    const closing = event.name === "file closed";
    if (closing) open = false;
    const said = { "file closed": report.closed_by && `by ${report.closed_by}`, "read failed": report.error }[event.name];
    return element(
      "li",
      { dataset: { file: open ? "open" : "closed", event: event.name } },
      element("span", { className: "when" }, milliseconds(event.elapsed_ms)),
      element("span", { className: "what" }, event.name),
      event.place ? element("code", { className: "place" }, event.place) : null,
      said ? element("span", { className: "note" }, ...prose(said)) : null,
    );
  });
}

function remedy(report) {
  const rows = { Request: report.request_id };
  if (report.where) rows["Closed in"] = report.where;
  return element("div", {}, element("p", {}, element("strong", {}, "To fix it, "), ...prose(report.use_instead), "."), facts(rows));
}

/** The code that works for each framework; lines that the failing code lacks are marked. */
function fix(code) {
  const mine = Object.keys(code).sort((one, other) => (other === framework) - (one === framework));
  return element(
    "div",
    { className: "fix" },
    element("h4", {}, "The fix"),
    ...mine.map((name, index) =>
      element(
        "details",
        { open: index === 0 },
        element("summary", {}, `In ${NAMES[name]}`),
        listing(code[name], NAMES[name]),
      ),
    ),
  );
}

function listing({ fails, works }, name) {
  const before = new Set(fails.split("\n").map(withoutComment));
  const lines = works.split("\n").map((line) => {
    const added = line.trim() !== "" && !before.has(withoutComment(line));
    return element(added ? "mark" : "span", {}, `${line}\n`);
  });
  const code = element("code", {}, ...lines);
  return element("pre", { tabIndex: 0, role: "region", "aria-label": `Code that works in ${name}; new lines are marked` }, code);
}

const withoutComment = (line) => line.replace(/\s+# .*$/, "").trim();
