/** Send one file by any hand-off, with progress by bytes; an abort leaves nothing in S3. */

import { address, call, identityHeaders, problemOf, unreachable } from "./api.js";

/** Largest file in bytes that the page digests itself: `crypto.subtle` needs all of it in memory. */
const DIGEST_BYTES = 64 * 1024 * 1024;
const PARTS_AT_ONCE = 3;

export const aborted = () => new DOMException("The upload was cancelled.", "AbortError");

/** The file's SHA-256 in hex; null for a large file, or on a page without a secure context. */
export async function sha256(file) {
  if (file.size > DIGEST_BYTES || !globalThis.crypto?.subtle) return null;
  const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Send a file and return its receipt; `onProgress` gets the number of bytes sent. */
export async function sendFile(file, handoff, hook, { onProgress = () => {}, signal, base } = {}) {
  const digest = await sha256(file);
  if (signal?.aborted) throw aborted();
  const send = handoff === "presigned" ? sendPresigned : sendForm;
  const { receipts } = await send(file, handoff, hook, digest, { onProgress, signal, base });
  return receipts[0];
}

async function sendForm(file, handoff, hook, digest, { onProgress, signal, base }) {
  const form = new FormData();
  if (digest) form.append("sha256", digest); // a promise comes before its file
  form.append("file", file, file.name);
  const url = address(`uploads/${encodeURIComponent(handoff)}?hook=${encodeURIComponent(hook)}`, base);
  const headers = { Accept: "application/json", ...identityHeaders() };
  const progress = (sent) => onProgress(Math.min(sent, file.size));
  const answer = await transmit("POST", url, headers, form, progress, signal);
  return JSON.parse(answer);
}

async function sendPresigned(file, _handoff, hook, digest, { onProgress, signal, base }) {
  const wanted = { filename: file.name, content_type: file.type, size: file.size };
  if (digest) wanted.sha256 = digest;
  const given = await call(`uploads/presigned?hook=${encodeURIComponent(hook)}`, { method: "POST", json: wanted, signal, base });
  try {
    if (given.parts) await sendParts(file, given, { onProgress, signal, base });
    else await transmit("PUT", given.url, given.headers, file, onProgress, signal);
    return await call(given.complete, { method: "POST", signal, base });
  } catch (error) {
    await undo(given, base);
    throw error;
  }
}

/** Send the parts of all pages, a few at once. */
async function sendParts(file, given, { onProgress, signal, base }) {
  const sent = new Map();
  const progress = (number, bytes) => {
    sent.set(number, bytes);
    onProgress([...sent.values()].reduce((sum, one) => sum + one, 0));
  };
  const failed = new AbortController(); // a failed part ends the others
  const either = AbortSignal.any([failed.signal, ...(signal ? [signal] : [])]);
  let offset = 0;
  for (let page = given; ; page = await call(page.next, { signal, base })) {
    const parts = page.parts.map((part) => {
      const blob = file.slice(offset, offset + part.size);
      offset += part.size;
      return { ...part, blob };
    });
    const worker = async () => {
      for (let part = parts.shift(); part; part = parts.shift()) {
        const { number, url, blob } = part;
        await transmit("PUT", url, {}, blob, (bytes) => progress(number, bytes), either);
      }
    };
    try {
      await Promise.all(Array.from({ length: PARTS_AT_ONCE }, worker));
    } catch (error) {
      failed.abort();
      throw error;
    }
    if (!page.next) return;
  }
}

/** Remove what a broken presigned upload has left in S3. */
async function undo(given, base) {
  const path = given.abort ?? given.complete.replace("/uploads/presigned/", "/objects/").replace(/\/complete$/, "");
  await call(path, { method: "DELETE", base }).catch(() => {}); // often there is nothing to remove
}

/** Send a body by XMLHttpRequest, which reports its progress; return the answer's text. */
function transmit(method, url, headers, body, onProgress, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) throw aborted();
    const request = new XMLHttpRequest();
    const abort = () => request.abort();
    request.open(method, url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => onProgress(event.loaded);
    request.onload = () => {
      if (request.status < 300) resolve(request.responseText);
      else reject(problemOf(request.status, request.responseText, "The store rejected the file"));
    };
    request.onerror = () => reject(unreachable(url));
    request.onabort = () => reject(aborted());
    request.onloadend = () => signal?.removeEventListener("abort", abort);
    signal?.addEventListener("abort", abort);
    request.send(body);
  });
}
