/** The section "The grid, live": one file through every hand-off and hook, in one service or in both. */

import { call, framework, otherApp } from "./api.js";
import { strategies, verdictOf } from "./choices.js";
import { announce, byId, count, element, milliseconds, prose } from "./dom.js";
import { firstFile } from "./files.js";
import { sendFile } from "./send.js";

const NAMES = { flask: "Flask", quart: "Quart" };

let cells = new Map();
let stopping = null;

export function showGrid() {
  draw();
  byId("run-grid").onclick = run;
  byId("stop-grid").onclick = () => stopping?.abort();
}

/** The services of the grid: this one, and the other one if the settings name it. */
function services() {
  const other = framework === "flask" ? "quart" : "flask";
  return [{ name: framework, base: "" }, ...(otherApp ? [{ name: other, base: otherApp }] : [])];
}

const unique = (name) => [...new Set(strategies().strategies.map((pair) => pair[name]))];

function draw() {
  const [handoffs, hooks, all] = [unique("handoff"), unique("hook"), services()];
  cells = new Map();
  const head = element("thead", {}, row("Hand-off", all.map(({ name }) => heading(NAMES[name], "colgroup", hooks.length)), 2));
  head.append(element("tr", {}, ...all.flatMap(() => hooks.map((hook) => heading(hook, "col")))));
  const body = element("tbody");
  for (const handoff of handoffs) {
    const line = all.flatMap(({ name }) => hooks.map((hook) => cell(name, handoff, hook)));
    body.append(element("tr", {}, element("th", { scope: "row" }, element("code", {}, handoff)), ...line));
  }
  byId("grid-table").replaceChildren(element("table", { className: "grid" }, head, body));
}

function row(text, headings, rowSpan) {
  return element("tr", {}, element("th", { scope: "col", rowSpan }, text), ...headings);
}

const heading = (text, scope, colSpan = 1) => element("th", { scope, colSpan }, scope === "col" ? element("code", {}, text) : text);

function cell(service, handoff, hook) {
  const made = element("td", { dataset: { state: "idle" } }, "–");
  cells.set([service, handoff, hook].join(" "), made);
  return made;
}

async function run() {
  if (byId("run-grid").ariaDisabled) return;
  stopping = new AbortController();
  const { signal } = stopping;
  const file = firstFile();
  draw();
  byId("reasons").replaceChildren();
  byId("run-grid").ariaDisabled = "true";
  byId("stop-grid").hidden = false;
  const total = { stored: 0, lost: 0, failed: 0 };
  await Promise.all(services().map((service) => runOne(service, file, total, signal)));
  byId("run-grid").ariaDisabled = null;
  byId("stop-grid").hidden = true;
  const ended = signal.aborted ? "Stopped. " : "";
  const failed = total.failed ? `, ${total.failed} failed otherwise` : "";
  const text = `${ended}${file.name}: stored ${count(total.stored, "time")}, lost ${count(total.lost, "time")}${failed}.`;
  byId("grid-status").textContent = text;
}

/** Fill the cells of one service, one after the other, so that the times do not disturb each other. */
async function runOne({ name, base }, file, total, signal) {
  if (base && !(await answers(name, base, signal))) return;
  for (const handoff of unique("handoff")) {
    for (const hook of unique("hook")) {
      if (signal.aborted) return;
      const outcome = await send(cells.get([name, handoff, hook].join(" ")), file, handoff, hook, { base, signal });
      total[outcome] += 1;
      byId("grid-status").textContent = `${total.stored + total.lost + total.failed} of ${cells.size} cells`;
    }
  }
}

/** Whether the other service answers this page; otherwise the first of its cells has the reason. */
async function answers(name, base, signal) {
  try {
    await call("strategies", { base, signal });
    return true;
  } catch (error) {
    const [first] = [...cells].find(([key]) => key.startsWith(`${name} `)) ?? [];
    fill(cells.get(first), "failed", "no answer", "", reason(error, false));
    return false;
  }
}

async function send(shown, file, handoff, hook, { base, signal }) {
  const began = performance.now();
  fill(shown, "running", "…");
  try {
    const receipt = await sendFile(file, handoff, hook, { base, signal });
    fill(shown, "stored", "stored", milliseconds(performance.now() - began));
    await call(`objects/${receipt.key}`, { method: "DELETE", base });
    return "stored";
  } catch (error) {
    const lost = error.code === "file-closed";
    const note = signal.aborted ? "" : reason(error, lost && verdictOf(handoff, hook, file.size) === "lost");
    fill(shown, lost ? "lost" : "failed", lost ? "lost" : "failed", milliseconds(performance.now() - began), note);
    if (!lost) announce(`${handoff} with ${hook} failed: ${error.title ?? error.message}`);
    return lost ? "lost" : "failed";
  }
}

function fill(shown, state, text, time = "", note = "") {
  shown.dataset.state = state;
  const mark = note ? element("sup", {}, element("a", { href: `#reason-${note}`, onclick: follow }, note)) : null;
  shown.replaceChildren(element("span", { className: "outcome" }, text, mark), element("span", { className: "note" }, time));
}

/** `<base>` makes this a link to `/`: stay on the page. */
function follow(event) {
  event.preventDefault();
  byId(new URL(event.currentTarget.href).hash.slice(1)).focus();
}

/** Add a reason to the list, once; return its number. */
function reason(error, known) {
  const text = `${(error.detail ?? String(error)).replace(/^The upload '[^']*'/, "The upload")}${known ? " This is known." : ""}`;
  const list = byId("reasons");
  const found = [...list.children].findIndex((item) => item.dataset.text === stripTimes(text));
  if (found >= 0) return String(found + 1);
  const item = element("li", { id: `reason-${list.children.length + 1}`, tabIndex: -1, dataset: { text: stripTimes(text) } }, ...prose(text));
  list.append(item);
  return String(list.children.length);
}

const stripTimes = (text) => text.replace(/[\d.]+ ms|thread '[^']*'|task '[^']*'/g, "");
