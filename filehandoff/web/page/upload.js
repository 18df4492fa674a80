/** The section "Upload": one transfer for each file, with progress, cancel, retry, and the receipt. */

import { Problem, address, call, hasToken, identityHeaders, problemOf } from "./api.js";
import { announce, byId, count, duration, element, milliseconds, prose, size } from "./dom.js";
import { selected } from "./choices.js";
import { chosen, whenChosen } from "./files.js";
import { sendFile } from "./send.js";

/** Transfers at once; a browser opens six connections to a server. */
const AT_ONCE = 3;
/** Seconds over which the speed is measured. */
const SPEED_SECONDS = 3;

const waiting = [];
const running = new Set();

export function watchUploads() {
  byId("send").addEventListener("submit", (event) => {
    event.preventDefault();
    start();
  });
  byId("cancel-all").addEventListener("click", () => {
    for (const transfer of [...waiting, ...running]) transfer.cancel();
  });
  whenChosen(() => {
    byId("forget").hidden = chosen.length === 0;
  });
}

function start() {
  if (!chosen.length) {
    byId("files").focus();
    announce("Choose a file first.");
    byId("chosen").textContent = "Choose a file first.";
    return;
  }
  const { handoff, hook } = selected();
  for (const file of chosen) {
    const transfer = new Transfer(file, handoff, hook);
    byId("transfers").append(transfer.item);
    waiting.push(transfer);
  }
  next();
}

function next() {
  while (running.size < AT_ONCE && waiting.length) {
    const transfer = waiting.shift();
    running.add(transfer);
    transfer.run().finally(() => {
      running.delete(transfer);
      next();
    });
  }
  byId("cancel-all").hidden = running.size + waiting.length < 2;
}

class Transfer {
  constructor(file, handoff, hook) {
    Object.assign(this, { file, handoff, hook });
    this.progress = element("progress", { max: Math.max(file.size, 1), value: 0, "aria-label": `Progress of ${file.name}` });
    this.status = element("p", { className: "note" }, "Waiting");
    this.buttons = element("p", { className: "row" });
    this.result = element("div");
    this.item = element(
      "li",
      { className: "card transfer", dataset: { state: "waiting" } },
      element(
        "h3",
        {},
        element("span", { className: "name" }, file.webkitRelativePath || file.name),
        element("span", { className: "note" }, `${size(file.size)} · `, element("code", {}, handoff), " × ", element("code", {}, hook)),
      ),
      this.progress,
      this.status,
      this.result,
      this.buttons,
    );
    this.prepare();
  }

  /** Wait for a place, with a button to cancel. */
  prepare() {
    this.controller = new AbortController();
    this.samples = [];
    this.progress.hidden = false;
    this.result.replaceChildren();
    this.show("waiting", "Waiting");
    this.offer(this.button("Cancel", () => this.cancel()));
  }

  async run() {
    this.show("running", "Starting");
    const options = { signal: this.controller.signal, onProgress: (sent) => this.moved(sent) };
    try {
      this.stored(await sendFile(this.file, this.handoff, this.hook, options));
    } catch (error) {
      if (error.name === "AbortError") this.failed("cancelled", "Cancelled. S3 keeps nothing of it.");
      else this.refused(error);
    }
  }

  cancel() {
    const index = waiting.indexOf(this);
    if (index >= 0) {
      waiting.splice(index, 1);
      this.failed("cancelled", "Cancelled before it began.");
      next();
    }
    this.controller.abort();
  }

  moved(sent) {
    const now = performance.now() / 1000;
    this.samples = [...this.samples.filter(([at]) => now - at < SPEED_SECONDS), [now, sent]];
    const [[began, before]] = this.samples;
    const speed = now > began ? (sent - before) / (now - began) : 0;
    const left = speed > 0 && sent < this.file.size ? `, ${duration((this.file.size - sent) / speed)} left` : "";
    this.progress.value = sent;
    const pace = speed > 0 ? ` · ${size(Math.round(speed))} a second${left}` : "";
    const done = sent >= this.file.size ? " · the service works on it" : "";
    this.show("running", `${size(sent)} of ${size(this.file.size)}${done || pace}`);
  }

  stored(receipt) {
    this.progress.hidden = true;
    this.show("stored", `Stored in ${milliseconds(receipt.elapsed_ms)}, as ${count(receipt.parts, "part")}`);
    this.result.replaceChildren(
      facts({ "SHA-256": receipt.sha256, Key: receipt.key, ETag: receipt.etag, Request: receipt.request_id }),
    );
    const link = element("a", { className: "button", href: address(`objects/${receipt.key}`), download: "" }, "Download");
    link.setAttribute("aria-label", `Download ${this.file.name}`);
    link.addEventListener("click", (event) => this.download(event, link));
    this.offer(link, this.button("Delete", () => this.remove(receipt)));
    announce(`${this.file.name} is stored.`);
  }

  /** A link sends no token, so a download with one is fetched. */
  async download(event, link) {
    if (!hasToken() || link.href.startsWith("blob:")) return;
    event.preventDefault();
    const answer = await fetch(link.href, { headers: identityHeaders() });
    if (!answer.ok) {
      this.refused(problemOf(answer.status, await answer.text()));
      return;
    }
    const copy = element("a", { href: URL.createObjectURL(await answer.blob()), download: this.file.name });
    copy.click();
    URL.revokeObjectURL(copy.href);
  }

  async remove(receipt) {
    try {
      await call(`objects/${receipt.key}`, { method: "DELETE" });
      this.failed("deleted", "Deleted.");
      announce(`${this.file.name} is deleted.`);
    } catch (error) {
      this.result.append(problemBox(error));
    }
  }

  refused(error) {
    this.failed("refused", "Not stored");
    this.result.replaceChildren(problemBox(error));
    announce(`${this.file.name} is not stored: ${error.title ?? error.message}`);
  }

  failed(state, text) {
    this.progress.hidden = true;
    this.show(state, text);
    this.result.replaceChildren();
    this.offer(this.button(state === "deleted" ? "Upload again" : "Retry", () => this.retry()));
  }

  retry() {
    this.prepare();
    waiting.push(this);
    next();
  }

  show(state, text) {
    this.item.dataset.state = state;
    this.status.textContent = text;
  }

  /** Replace the buttons; a keyboard's focus stays among them. */
  offer(...buttons) {
    const focused = this.buttons.contains(document.activeElement);
    this.buttons.replaceChildren(...buttons);
    if (focused) buttons[0].focus();
  }

  button(text, onclick) {
    return element("button", { type: "button", onclick, "aria-label": `${text} ${this.file.name}` }, text);
  }
}

/** A problem with its title, detail and request id. */
export function problemBox(error) {
  const problem = error instanceof Problem ? error : new Problem({ title: "The page failed", detail: String(error) });
  const id = [problem.code, problem.requestId && `request ${problem.requestId}`].filter(Boolean).join(" · ");
  return element(
    "div",
    { className: "message bad" },
    element("p", {}, element("strong", {}, problem.title)),
    element("p", {}, ...prose(problem.detail)),
    id ? element("p", { className: "note" }, element("code", {}, id)) : null,
  );
}

export function facts(values) {
  const terms = Object.entries(values).flatMap(([term, text]) => [
    element("dt", {}, term),
    element("dd", {}, element("code", {}, text)),
  ]);
  return element("dl", { className: "facts" }, ...terms);
}
