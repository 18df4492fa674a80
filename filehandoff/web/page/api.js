/** Requests to the services, with the token; a problem details answer (RFC 9457) becomes an error. */

const values = document.body.dataset;

export const framework = values.framework;
export const otherApp = values.otherApp;
/** How clients prove their identity: "none" if anyone may use the service. */
export const authentication = values.authentication;

let token = "";

/** Keep the token in this module's memory, and nowhere else. */
export function useToken(text) {
  token = text.trim();
}

export const hasToken = () => token !== "";

export function identityHeaders() {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

/** An answer other than success: problem details, or something else that is shown as such. */
export class Problem extends Error {
  constructor({ title, detail, status = 0, code = "", request_id = "" }) {
    super(`${title}. ${detail}`);
    Object.assign(this, { title, detail, status, code, requestId: request_id });
  }
}

export function problemOf(status, text, title = "The service failed") {
  try {
    const problem = JSON.parse(text);
    if (problem.title) return new Problem(problem);
  } catch {
    // the answer is not the service's own
  }
  return new Problem({ title, detail: storeDetail(text) || `The answer has status ${status}.`, status });
}

/** The code and message in an error of S3, which is XML. */
function storeDetail(text) {
  const [, code] = /<Code>([^<]*)<\/Code>/.exec(text) ?? [];
  const [, message] = /<Message>([^<]*)<\/Message>/.exec(text) ?? [];
  return [code, message].filter(Boolean).join(": ");
}

export function unreachable(url) {
  const origin = new URL(url).origin;
  const elsewhere = origin !== window.location.origin;
  return new Problem({
    title: `No answer from ${origin}`,
    detail: elsewhere
      ? `It does not respond, or it does not allow pages of ${window.location.origin} (CORS). The bucket of a store needs ` +
        "a CORS rule for this origin; another service must name it among its allowed origins."
      : "The connection broke, or the service does not run any more.",
    code: elsewhere ? "cors" : "network",
  });
}

/** The whole address of a path of this app, or of the app at `base`. */
export function address(path, base = "") {
  return new URL(path, base ? base.replace(/\/?$/, "/") : document.baseURI).href;
}

/** Send a request; return its JSON, or null for an answer without content. */
export async function call(path, { method = "GET", json, body, signal, base } = {}) {
  const url = address(path, base);
  const headers = { Accept: "application/json", ...identityHeaders() };
  if (json !== undefined) headers["Content-Type"] = "application/json";
  const sent = json === undefined ? body : JSON.stringify(json);
  let answer;
  try {
    answer = await fetch(url, { method, headers, body: sent, signal });
  } catch (error) {
    throw error.name === "AbortError" ? error : unreachable(url);
  }
  const text = await answer.text();
  if (!answer.ok) throw problemOf(answer.status, text);
  return text ? JSON.parse(text) : null;
}
