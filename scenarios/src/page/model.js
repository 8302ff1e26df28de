// The run, and what is asked of it often: which events a lane has, what it holds when, while it lives.

const run = JSON.parse(document.getElementById("data").textContent);
const by = (id) => document.getElementById(id);

/** An element with attributes and children. Text becomes a text node, never markup. */
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  return fill(element, ...children);
}

/** Gives an element other children; lists are laid flat, and what is false or null is left out. */
function fill(element, ...children) {
  element.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false && child !== ""));
  return element;
}

/** One line that ends in an ellipsis where the place is short; the whole of it is the title. */
const cut = (classes, text) => make("span", { class: `${classes} cut`, title: text }, text);

const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
const clock = (at) => (run.clock === "ms" ? `${at.toLocaleString("en")} ms` : `step ${at.toLocaleString("en")}`);
const laneName = (lane) => run.lanes[lane]?.name ?? `lane ${lane}`;
const say = (text) => { by("said").textContent = text; };

// A shape for each kind, in a box from -6 to 6, filled or drawn as a line; with the colour of a plain one.
const KINDS = {
  start: { path: "M0,-5L5,4H-5Z", filled: true, colour: "good" },
  entry: { path: "M-4,-4H4V4H-4Z", filled: true, colour: "note" },
  verdict: { path: "M-5,0L-1.5,4L5,-4", filled: false, colour: "good" },
  step: { path: "M0,-3.5A3.5,3.5 0 1 1 -0.01,-3.5Z", filled: true, colour: "ink" },
  disk: { path: "M-5,-1.5H5V1.5H-5Z", filled: true, colour: "soft" },
  fault: { path: "M0,5L5,-4H-5Z", filled: true, colour: "warn" },
  crash: { path: "M-5,-5L5,5M5,-5L-5,5", filled: false, colour: "bad" },
  message: { path: "M0,-3.5A3.5,3.5 0 1 1 -0.01,-3.5Z", filled: false, colour: "accent" },
  role: { path: "M-3,-5H3L6,0L3,5H-3L-6,0Z", filled: false, colour: "note" },
  client: { path: "M-4,-4H4V4H-4Z", filled: false, colour: "accent" },
  world: { path: "M0,-5V5M-5,0H5", filled: false, colour: "soft" },
  log: { path: "M-5,-2H5M-5,2H2", filled: false, colour: "soft" },
  violation: { path: "M0,-6L6,0L0,6L-6,0Z", filled: true, colour: "bad" },
};
// A verdict that is bad is not told by its colour alone.
const REFUSED = { path: "M-5,0A5,5 0 1 1 5,0A5,5 0 1 1 -5,0M-3,0H3", filled: false, colour: "bad" };
const markOf = (event) => (event.kind === "verdict" && event.tone === "bad" ? "refused" : KINDS[event.kind] ? event.kind : "log");
const SHAPES = { ...KINDS, refused: REFUSED };
const kindOf = (event) => KINDS[event.kind] ?? KINDS.log;
const colourOf = (event) => (event.tone === "plain" ? kindOf(event).colour : event.tone);

/** The shape of a kind as a picture for chips and headings. */
function sign(kind, colour) {
  const { path, filled, colour: own } = SHAPES[kind] ?? SHAPES.log;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "-7 -7 14 14");
  svg.setAttribute("aria-hidden", "true");
  const shape = document.createElementNS("http://www.w3.org/2000/svg", "path");
  shape.setAttribute("d", path);
  const paint = `var(--${colour ?? own})`;
  shape.style.fill = filled ? paint : "none";
  shape.style.stroke = filled ? "none" : paint;
  shape.style.strokeWidth = "2";
  svg.append(shape);
  return svg;
}

/** Violations by the event at which they show. */
const violationsAt = new Map();
run.violations.forEach((violation, index) => {
  if (!run.events[violation.event]) violation.event = null;
  if (violation.event === null) return;
  if (!violationsAt.has(violation.event)) violationsAt.set(violation.event, []);
  violationsAt.get(violation.event).push(index);
});
const counts = (event) => event.kind === "crash" || event.kind === "violation" || violationsAt.has(event.id);

/** For each lane the events at which its stores changed, in order. */
const changes = run.lanes.map(() => []);
/** For each lane its lives, as [first event, last event]. */
const lives = run.lanes.map(() => []);
const SHOWS_NO_LIFE = new Set(["fault", "log", "violation", "world", "client"]);
{
  const living = run.lanes.map(() => false);
  for (const event of run.events) {
    const lane = event.lane;
    if (event.stores !== null) changes[lane].push(event.id);
    if (event.kind === "crash") {
      if (living[lane]) lives[lane].at(-1)[1] = event.id;
      living[lane] = false;
    } else if (!living[lane] && !SHOWS_NO_LIFE.has(event.kind)) {
      lives[lane].push([event.id, Infinity]);
      living[lane] = true;
    }
  }
}

/** The first index whose value is not below: the list rises. */
function firstNotBelow(length, value, valueAt) {
  let [low, high] = [0, length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (valueAt(middle) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The event that last changed what the lane holds, at or before this one; -1 where there is none. */
function lastChange(lane, event) {
  const list = changes[lane];
  const next = firstNotBelow(list.length, event + 1, (index) => list[index]);
  return next === 0 ? -1 : list[next - 1];
}

// Time never goes back in order of events; where a world has two clocks, the later one counts.
const latest = new Float64Array(run.events.length);
run.events.forEach((event, index) => { latest[index] = Math.max(event.at, index > 0 ? latest[index - 1] : -Infinity); });

/** What the text filter looks into: made when first asked for. */
const haystacks = [];
function haystack(id) {
  const event = run.events[id];
  haystacks[id] ??= [
    event.kind, event.name, event.text, laneName(event.lane), event.to === null ? "" : laneName(event.to),
    event.entry === null ? "" : `entry ${event.entry}`, ...event.fates.flatMap((fate) => [fate.op, fate.fate, fate.detail]),
    ...(violationsAt.get(id) ?? []).map((index) => run.violations[index].invariant),
  ].join("\n").toLowerCase();
  return haystacks[id];
}
