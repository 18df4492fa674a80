/** The choice of hand-off and hook, from `GET /strategies`. */

import { call } from "./api.js";
import { byId, element, prose } from "./dom.js";
import { chosen, firstFile, whenChosen } from "./files.js";

let described = null;

/** The answer of `/strategies`; null before it has come. */
export const strategies = () => described;

export async function loadChoices() {
  described = await call("strategies");
  const pairs = described.strategies;
  const handoffs = new Map(pairs.map((pair) => [pair.handoff, pair]));
  const hooks = new Map(pairs.map((pair) => [pair.hook, pair]));
  const { handoff, hook } = described.default;
  byId("handoffs").replaceChildren(
    ...[...handoffs.values()].map((pair) =>
      choice("handoff", pair.handoff, pair.sentence.split(` ${pair.hook}: `)[0], handoff, {
        Memory: pair.memory,
        Disk: pair.disk,
      }),
    ),
  );
  byId("hooks").replaceChildren(
    ...[...hooks.values()].map((pair) => choice("hook", pair.hook, pair.sentence.split(` ${pair.hook}: `)[1], hook)),
  );
  byId("send").addEventListener("change", showVerdict);
  whenChosen(showVerdict);
  showVerdict();
}

function choice(name, value, sentence, standard, costs = {}) {
  const id = `${name}-${value}`;
  const checked = value === standard;
  const input = element("input", { type: "radio", id, name, value, checked, "aria-describedby": `${id}-note` });
  return element(
    "div",
    { className: "choice" },
    element("p", { className: "choice-name" }, input, element("label", { htmlFor: id }, element("code", {}, value)), badge(checked)),
    element("p", { id: `${id}-note`, className: "note" }, sentence, ...costLines(costs)),
  );
}

const badge = (standard) => (standard ? element("span", { className: "pill quiet" }, "default") : null);

const costLines = (costs) =>
  Object.entries(costs).map(([term, text]) => element("span", { className: "cost" }, element("b", {}, `${term}: `), text));

export function selected() {
  const form = new FormData(byId("send"));
  return { handoff: form.get("handoff"), hook: form.get("hook") };
}

/** The size class of the grid for a file. */
export function sizeClass(bytes) {
  const classes = described.size_classes.filter((one) => one.bytes <= Math.max(bytes, described.size_classes[0].bytes));
  return classes.at(-1).name;
}

export function verdictOf(handoff, hook, bytes) {
  const pair = described.strategies.find((one) => one.handoff === handoff && one.hook === hook);
  return pair.verdicts[sizeClass(bytes)];
}

/** Warn of a pair that is known to lose the chosen file. */
function showVerdict() {
  const { handoff, hook } = selected();
  const sizes = chosen.length ? chosen.map((file) => file.size) : [firstFile().size];
  const lost = sizes.some((bytes) => verdictOf(handoff, hook, bytes) === "lost");
  const note = byId("verdict");
  note.hidden = !lost;
  const what = chosen.length ? "a file of this size" : "files";
  const warning =
    `The hand-off \`${handoff}\` with the hook \`${hook}\` is known to lose ${what}: the service answers with an error ` +
    "that names the code that closed it. Try it.";
  note.replaceChildren(...(lost ? prose(warning) : []));
}
