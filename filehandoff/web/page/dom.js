/** Elements, and the texts of sizes and times. */

/** Make an element; a property may be an attribute such as `aria-label`, a listener such as `onclick`, or `dataset`. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "dataset") Object.assign(made.dataset, value);
    else if (name.includes("-") || name === "role") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export const byId = (id) => document.getElementById(id);

/** Let a screen reader say this. */
export function announce(text) {
  byId("announcer").textContent = text;
}

/** A text with `code` between backticks, as nodes. */
export function prose(text) {
  return text.split("`").map((part, index) => (index % 2 ? element("code", {}, part) : part));
}

const UNITS = ["bytes", "KB", "MB", "GB", "TB"];

export function size(bytes) {
  let unit = 0;
  let value = bytes;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  if (unit === 0) return `${bytes} ${bytes === 1 ? "byte" : "bytes"}`;
  return `${value.toLocaleString("en", { maximumSignificantDigits: 3 })} ${UNITS[unit]}`;
}

export function duration(seconds) {
  if (seconds < 1) return "less than a second";
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  if (seconds < 5400) return `${Math.ceil(seconds / 60)} min`;
  return `${Math.ceil(seconds / 3600)} h`;
}

export function milliseconds(value) {
  const digits = [1, 10].filter((bound) => value < bound).length;
  return `${value.toLocaleString("en", { maximumFractionDigits: digits })} ms`;
}

export const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
