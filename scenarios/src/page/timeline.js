// The timeline's rows, cursor, filters, zoom and keys. What is drawn is only what is in sight.

const events = by("events");
const filter = { without: new Set(), entry: "", words: [] };
const SLOT = 26; // zoomed out, words have a line in each so many pixels
const elements = new Map(); // row elements in the document, by event

function passes(event) {
  if (filter.without.has(event.kind)) return false;
  if (filter.entry !== "" && String(event.entry) !== filter.entry) return false;
  return filter.words.every((word) => haystack(event.id).includes(word));
}

/** Applies the filters. The cursor stays, or goes to the nearest event that is left. */
function sift() {
  view.shown = [];
  view.rowOf.fill(-1);
  for (const event of run.events) {
    if (!passes(event)) continue;
    view.rowOf[event.id] = view.shown.length;
    view.shown.push(event.id);
  }
  view.messages = view.shown.flatMap((id, row) => {
    const { to, arrives, lane } = run.events[id];
    return to === null || to === lane ? [] : [[row, arrives === null ? -1 : rowAt(arrives)]];
  });
  const [left, all] = [view.shown.length, run.events.length];
  by("count").textContent = left === all ? plural(all, "event") : `${left.toLocaleString("en")} of ${plural(all, "event")}`;
  by("clear").hidden = left === all;
  by("empty").hidden = left > 0;
  if (left > 0 && view.rowOf[view.cursor] < 0) view.cursor = view.shown[Math.min(rowFrom(view.cursor), left - 1)];
  layout();
  reveal(true);
  showCursor();
}

/** Fits lanes and canvas to the place that there is. */
function layout() {
  const room = events.clientWidth;
  const digits = Math.max(...[run.events.at(-1)?.at ?? 0].map((at) => at.toLocaleString("en").length));
  size.time = Math.max(52, digits * 8 + 18);
  const lanes = Math.max(1, run.lanes.length);
  // Room for the lanes' names, unless there are so many that the words would have none.
  size.lane = Math.max(46, Math.min(nameWidth(), 110), Math.min(84, Math.floor((room * 0.36) / lanes)));
  size.width = size.time + lanes * size.lane;
  size.height = Math.max(0, events.clientHeight - HEAD);
  const space = by("space");
  space.style.setProperty("--time", `${size.time}px`);
  space.style.setProperty("--graph", `${lanes * size.lane}px`);
  space.style.setProperty("--before", `${size.width + 4}px`);
  space.style.minWidth = `${size.width + 330}px`;
  const tall = view.shown.length * height();
  space.style.height = `${Math.max(1, readable() ? tall : Math.ceil(tall / SLOT) * SLOT)}px`;
  space.style.setProperty("--who", `${Math.max(46, Math.min(nameWidth(), 90))}px`);
  // The canvas takes no place of its own: the rows lie under it.
  by("graph").style.marginBottom = `${-size.height}px`;
  by("rows").style.fontSize = `${Math.max(11, Math.min(14, height() * 0.58))}px`;
  by("zoom").textContent = `${height()} px`;
  by("out").disabled = view.zoom === 0;
  by("in").disabled = view.zoom === HEIGHTS.length - 1;
  for (const cell of by("lanes").children) {
    const lane = cell.dataset.lane;
    cell.style.width = lane === undefined ? cell.className.includes("rest") ? "auto" : `${size.time}px` : `${size.lane}px`;
  }
  for (const element of elements.values()) element.remove();
  elements.clear();
}

let measured = 0;
function nameWidth() {
  if (measured > 0) return measured;
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = `600 12px ${getComputedStyle(document.body).fontFamily}`;
  measured = Math.ceil(Math.max(...run.lanes.map((lane) => pen.measureText(lane.name).width), 0)) + 10;
  return measured;
}

function showLanes() {
  by("lanes").append(cut("soft", run.clock === "ms" ? "ms" : "step"),
    ...run.lanes.map((lane) => {
      const cell = cut("", lane.name);
      cell.dataset.lane = lane.id;
      return cell;
    }),
    make("span", { class: "rest" }, "what happens"));
}

let asked = false;
function paintSoon() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => { asked = false; paint(); });
}

function paint() {
  const top = events.scrollTop;
  const first = Math.max(0, Math.floor(top / height()) - 1);
  const last = Math.min(view.shown.length - 1, Math.ceil((top + size.height) / height()) + 1);
  const words = readable() ? everyRow(first, last) : chosenRows(first, last);
  placeRows(words);
  drawLanes(first, last, top, size.height, readable() ? [] : words);
  drawStrip();
}

/** All in sight, and the cursor's, so that it can always be told which it is. */
function everyRow(first, last) {
  const here = view.rowOf[view.cursor];
  const rows = [];
  for (let row = first; row <= last; row += 1) rows.push(row);
  if (view.shown.length > 0 && (here < first || here > last)) rows.push(here);
  return rows.map((row) => ({ row, y: rowY(row) }));
}

const QUIET = new Set(["disk", "message", "step", "log"]);

/**
 * Zoomed out, there is room for words once in so many pixels. Each such slot gives it to the cursor, else to what counts
 * most in it. Slots are counted from the first row, so that words stay with their events while one scrolls.
 */
function chosenRows(first, last) {
  const rank = (row) => {
    const event = run.events[view.shown[row]];
    if (event.id === view.cursor) return 3;
    return counts(event) ? 2 : QUIET.has(event.kind) ? 0 : 1;
  };
  const slotOf = (row) => Math.floor(rowY(row) / SLOT);
  const best = new Map();
  const from = Math.max(0, first - Math.ceil(SLOT / height()));
  const to = Math.min(view.shown.length - 1, last + Math.ceil(SLOT / height()));
  const here = view.rowOf[view.cursor];
  const offer = (row) => {
    const slot = slotOf(row);
    const holder = best.get(slot);
    if (rank(row) > (holder === undefined ? 0 : rank(holder))) best.set(slot, row);
  };
  for (let row = from; row <= to; row += 1) offer(row);
  if (here >= 0) offer(here);
  return [...best].map(([slot, row]) => ({ row, y: (slot + 0.5) * SLOT }));
}

function placeRows(words) {
  const wanted = new Map(words.map(({ row, y }) => [view.shown[row], y]));
  for (const [id, element] of elements) {
    if (wanted.has(id)) continue;
    element.remove();
    elements.delete(id);
  }
  const tall = readable() ? height() : SLOT - 4;
  for (const [id, y] of wanted) {
    let element = elements.get(id);
    if (!element) {
      element = rowElement(run.events[id]);
      elements.set(id, element);
      element.style.height = `${tall}px`;
      element.style.top = `${y - tall / 2}px`;
      by("rows").append(element);
    }
    element.setAttribute("aria-selected", String(id === view.cursor));
  }
  if (elements.has(view.cursor)) events.setAttribute("aria-activedescendant", `event-${view.cursor}`);
  else events.removeAttribute("aria-activedescendant");
}

function rowElement(event) {
  const blames = (violationsAt.get(event.id) ?? []).map((index) => run.violations[index].invariant);
  const classes = ["row", event.tone, event.kind === "crash" && "crash", blames.length > 0 && "violation-row", !readable() && "far"];
  const towards = event.to === null ? "" : ` → ${laneName(event.to)}`;
  const who = cut("who", laneName(event.lane));
  const words = `${towards && `${towards.trim()}${event.text && ": "}`}${event.text}`;
  const tag = event.kind === "crash" && event.fates.length > 0 ? `${event.fates.length} pending` : "";
  const spoken = [clock(event.at), laneName(event.lane) + towards, event.kind === event.name ? event.kind : `${event.kind} ${event.name}`,
    event.text, event.entry === null ? "" : `entry ${event.entry}`, ...blames.map((name) => `violates ${name}`)];
  return make("div", {
    class: classes.filter(Boolean).join(" "), role: "option", id: `event-${event.id}`, "aria-selected": "false",
    "aria-posinset": view.rowOf[event.id] + 1, "aria-setsize": view.shown.length, "aria-label": spoken.filter(Boolean).join(", "),
  },
    readable() && [make("span", { class: "at" }, event.at.toLocaleString("en")), make("span", { class: "lane-gap" })],
    who, cut("name", event.name), cut("what", words),
    tag && make("span", { class: "tag" }, tag),
    blames.length > 0 && make("span", { class: "tag bad" }, cut("", blames.length === 1 ? blames[0] : `${blames[0]} and ${blames.length - 1} more`)),
    event.entry !== null && make("span", { class: "tag note" }, `entry ${event.entry}`));
}

/** Brings the cursor's row into sight, to the middle if it was far away. */
function reveal(middle) {
  const row = view.rowOf[view.cursor];
  if (row < 0) return;
  const [top, margin] = [row * height(), Math.min(3 * height(), size.height / 4)];
  const [low, high] = [top - margin, top + height() + margin - size.height];
  if (middle && (events.scrollTop > low || events.scrollTop < high)) events.scrollTop = top - size.height / 2;
  else if (events.scrollTop > low) events.scrollTop = low;
  else if (events.scrollTop < high) events.scrollTop = high;
}

let lastWithStores = run.lanes.find((lane) => changes[lane.id].length > 0)?.id ?? 0;

/** Everything that follows the cursor. */
function showCursor() {
  const event = run.events[view.cursor];
  paint();
  if (!event) return;
  for (const cell of by("lanes").children) cell.classList.toggle("on", cell.dataset.lane === String(event.lane));
  showEvent(event.id);
  if (changes[event.lane].length > 0) lastWithStores = event.lane;
  showStores(view.lane ?? lastWithStores, event.id);
}

function goTo(id, middle = true) {
  if (view.rowOf[id] < 0) clearFilters();
  view.cursor = id;
  reveal(middle);
  showCursor();
  by("timeline").scrollIntoView({ block: "nearest" });
  try {
    history.replaceState(null, "", `#event-${id}`);
  } catch {
    // A page inside another's frame may not; the cursor moves all the same.
  }
}

const goToRow = (row, middle) => {
  if (view.shown.length > 0) goTo(view.shown[Math.max(0, Math.min(view.shown.length - 1, row))], middle);
};
const moveBy = (rows) => goToRow(view.rowOf[view.cursor] + rows, false);

/** To the nearest shown event of the next lane on that side that has any. */
function moveLane(step) {
  if (view.shown.length === 0) return undefined;
  const here = view.rowOf[view.cursor];
  for (let lane = run.events[view.cursor].lane + step; lane >= 0 && lane < run.lanes.length; lane += step) {
    for (let away = 1; away < view.shown.length; away += 1) {
      for (const row of [here - away, here + away]) {
        if (view.shown[row] !== undefined && run.events[view.shown[row]].lane === lane) return goTo(view.shown[row], false);
      }
    }
  }
  return say("No further lane on this side.");
}

function moveToWhatCounts(step) {
  for (let row = view.rowOf[view.cursor] + step; row >= 0 && row < view.shown.length; row += step) {
    if (counts(run.events[view.shown[row]])) return goToRow(row, true);
  }
  return say(step > 0 ? "No further violation or crash." : "No earlier violation or crash.");
}

/** Zooms; what is at this height of the view stays there. */
function zoomBy(step, anchor) {
  const zoom = Math.max(0, Math.min(HEIGHTS.length - 1, view.zoom + step));
  if (zoom === view.zoom) return;
  const here = rowY(view.rowOf[view.cursor]) - events.scrollTop;
  const y = anchor ?? (here >= 0 && here <= size.height ? here : size.height / 2);
  const row = (events.scrollTop + y) / height();
  view.zoom = zoom;
  layout();
  events.scrollTop = row * height() - y;
  paint();
}

function showFilters() {
  const tally = new Map();
  for (const event of run.events) tally.set(event.kind, (tally.get(event.kind) ?? 0) + 1);
  const kinds = [...Object.keys(KINDS).filter((kind) => tally.has(kind)), ...[...tally.keys()].filter((kind) => !KINDS[kind])];
  by("kinds").append(...kinds.map((kind) => {
    const box = make("input", { type: "checkbox", checked: true, value: kind });
    box.addEventListener("change", readKinds);
    return make("label", { class: "chip" }, box, sign(kind), kind, make("span", { class: "count" }, tally.get(kind).toLocaleString("en")));
  }));
  const entries = new Map();
  for (const { entry } of run.events) if (entry !== null) entries.set(entry, (entries.get(entry) ?? 0) + 1);
  by("entry").append(make("option", { value: "" }, "all"),
    ...[...entries].sort(([a], [b]) => a - b).map(([entry, count]) => make("option", { value: entry }, `${entry} (${plural(count, "event")})`)));
  by("entry").addEventListener("change", () => { filter.entry = by("entry").value; sift(); sayCount(); });
  by("text").addEventListener("input", () => { filter.words = by("text").value.toLowerCase().split(/\s+/).filter(Boolean); sift(); sayCount(); });
  for (const [id, on] of [["all", true], ["none", false]]) {
    by(id).addEventListener("click", () => { for (const box of boxes()) box.checked = on; readKinds(); });
  }
  by("clear").addEventListener("click", () => { clearFilters(); events.focus(); });
}

const boxes = () => by("kinds").querySelectorAll("input");
const sayCount = () => say(`${by("count").textContent} shown`);
function readKinds() {
  filter.without = new Set([...boxes()].filter((box) => !box.checked).map((box) => box.value));
  sift();
  sayCount();
}

function clearFilters() {
  for (const box of boxes()) box.checked = true;
  by("entry").value = by("text").value = filter.entry = "";
  filter.words = [];
  readKinds();
}

function showWhose() {
  const whose = run.lanes.filter((lane) => changes[lane.id].length > 0);
  by("whose").append(make("option", { value: "" }, "the cursor's lane"), ...whose.map((lane) => make("option", { value: lane.id }, lane.name)));
  by("whose").addEventListener("change", () => {
    view.lane = by("whose").value === "" ? null : Number(by("whose").value);
    showCursor();
  });
}

const page = () => Math.max(1, Math.floor(size.height / height()) - 1);
const EVERYWHERE = {
  "j": () => moveBy(1), "k": () => moveBy(-1), "n": () => moveToWhatCounts(1), "p": () => moveToWhatCounts(-1),
  "+": () => zoomBy(1), "=": () => zoomBy(1), "-": () => zoomBy(-1), "?": () => by("help").showModal(), "/": toText,
};
const IN_EVENTS = {
  ArrowDown: () => moveBy(1), ArrowUp: () => moveBy(-1), ArrowLeft: () => moveLane(-1), ArrowRight: () => moveLane(1),
  Home: () => goToRow(0), End: () => goToRow(view.shown.length - 1), PageDown: () => moveBy(page()), PageUp: () => moveBy(-page()),
};

function toText() {
  by("text").focus();
  by("text").select();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || by("help").open) return;
  const target = event.target;
  if (target === by("text")) {
    if (event.key !== "Escape" && event.key !== "Enter") return;
    event.preventDefault();
    events.focus();
    return;
  }
  if (target.matches("select")) return;
  const inEvents = target === events || target === document.body;
  const action = EVERYWHERE[event.key] ?? (inEvents ? IN_EVENTS[event.key] : undefined);
  if (!action) return;
  event.preventDefault();
  action();
}

function listenToPointer() {
  events.addEventListener("scroll", paintSoon, { passive: true });
  events.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    zoomBy(event.deltaY < 0 ? 1 : -1, event.clientY - events.getBoundingClientRect().top - HEAD);
  }, { passive: false });
  let from = null;
  by("space").addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    from = { y: event.clientY, x: event.clientX, top: events.scrollTop, left: events.scrollLeft, moved: false };
  });
  addEventListener("pointermove", (event) => {
    if (!from || Math.hypot(event.clientY - from.y, event.clientX - from.x) < 5) return;
    from.moved = true;
    // Over the lanes a drag pans; over the words it selects text.
    if (from.x - events.getBoundingClientRect().left + from.left > size.width) return;
    event.preventDefault();
    events.scrollTop = from.top + from.y - event.clientY;
    events.scrollLeft = from.left + from.x - event.clientX;
  });
  addEventListener("pointerup", (event) => {
    const clicked = from && !from.moved && by("space").contains(event.target);
    from = null;
    if (!clicked) return;
    const row = event.target.closest(".row");
    if (row) goTo(Number(row.id.slice(6)), false);
    else goToRow(Math.floor((event.clientY - by("space").getBoundingClientRect().top) / height()), false);
  });
  const strip = by("strip");
  const onStrip = (event) => {
    const box = strip.getBoundingClientRect();
    const share = (event.clientY - box.top - HEAD) / (box.height - HEAD);
    events.scrollTop = share * view.shown.length * height() - size.height / 2;
  };
  strip.addEventListener("pointerdown", (event) => { strip.setPointerCapture(event.pointerId); onStrip(event); });
  strip.addEventListener("pointermove", (event) => { if (event.buttons > 0) onStrip(event); });
}

function begin() {
  showMasthead();
  showViolations((id) => { goTo(id); events.focus(); });
  showStory();
  showLanes();
  showFilters();
  showWhose();
  readPalette();
  const named = Number(location.hash.match(/^#event-(\d+)$/)?.[1] ?? NaN);
  const first = run.violations.find((violation) => violation.event !== null)?.event ?? 0;
  view.cursor = run.events[named] ? named : first;
  sift();
  document.addEventListener("keydown", onKey);
  listenToPointer();
  for (const [id, action] of [["back", () => moveToWhatCounts(-1)], ["forth", () => moveToWhatCounts(1)],
    ["out", () => zoomBy(-1)], ["in", () => zoomBy(1)], ["ask", () => by("help").showModal()]]) by(id).addEventListener("click", action);
  addEventListener("hashchange", () => {
    const id = Number(location.hash.match(/^#event-(\d+)$/)?.[1] ?? NaN);
    if (run.events[id]) goTo(id);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readPalette(); paint(); });
  new ResizeObserver(() => { layout(); paint(); }).observe(events);
}

begin();
