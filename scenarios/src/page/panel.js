// What is at the cursor: the event with all its words, and what its lane's stores hold there.

function showEvent(id) {
  const event = run.events[id];
  const where = [clock(event.at), laneName(event.lane)];
  if (event.life > 0) where.push(`life ${event.life}`);
  if (event.entry !== null) where.push(`entry ${event.entry}`);
  if (event.to !== null) where.push(event.arrives === null ? `to ${laneName(event.to)}, never arrives` : `arrives in ${laneName(event.to)} at ${clock(event.arrives)}`);
  fill(by("event"),
    make("h2", {}, sign(markOf(event), colourOf(event)), event.kind === event.name ? event.name : `${event.kind}: ${event.name}`),
    make("p", { class: "where" }, `Event ${id}: ${where.join(", ")}`),
    event.text !== "" && make("p", { class: "said" }, event.text),
    (violationsAt.get(id) ?? []).map((index) => make("p", { class: "blame" },
      make("strong", {}, `Violates ${run.violations[index].invariant}`), `: ${run.violations[index].says}`)),
    event.kind === "crash" && fatesTable(event.fates));
}

const FATES = { kept: "good", dropped: "bad", torn: "warn", unreachable: "" };

function fatesTable(fates) {
  if (fates.length === 0) return make("p", { class: "blame" }, "Nothing was pending: the crash took nothing from the disk.");
  const tally = Object.keys(FATES).map((fate) => [fate, fates.filter((each) => each.fate === fate).length]).filter(([, count]) => count > 0);
  const head = make("tr", {}, ["pending operation", "fate", "in detail"].map((name) => make("th", { scope: "col" }, name)));
  const rows = fates.map((each) => make("tr", {}, make("td", {}, each.op),
    make("td", {}, make("span", { class: `tag ${FATES[each.fate] ?? ""}` }, each.fate)), make("td", {}, each.detail)));
  return make("div", { class: "fates scroll" }, make("table", { id: "fates" },
    make("caption", {}, `What the crash did to ${plural(fates.length, "pending operation")}: ${tally.map(([fate, count]) => `${count} ${fate}`).join(", ")}`),
    make("thead", {}, head), make("tbody", {}, rows)));
}

let held = { lane: -1, change: -2 };

/** The stores of the lane as they are after the event. */
function showStores(lane, id) {
  const change = lastChange(lane, id);
  fill(by("since"), since(lane, id, change));
  if (held.lane === lane && held.change === change) return markChanged(id === change);
  held = { lane, change };
  if (change < 0) {
    fill(by("held"), make("p", { class: "store nothing" }, "Nothing is known of this lane's stores here."));
    return undefined;
  }
  const now = run.stores[run.events[change].stores];
  const before = lastChange(lane, change - 1);
  const old = before < 0 ? null : run.stores[run.events[before].stores];
  const changed = (part) => old !== null && JSON.stringify(old[part]) !== JSON.stringify(now[part]);
  fill(by("held"),
    store("Keystore in memory", "memory", changed("memory"), memory(now.memory)),
    store("Sidecar", "sidecar", changed("sidecar"), twoSides(now.sidecar, "no file", lines), sameness(now.sidecar)),
    store("Writer registry", "registry", changed("registry"), twoSides(now.registry, "cannot be read", (rows) => rows), sameness(now.registry)),
    store(`Pending on the disk (${now.pending.length})`, "pending", changed("pending"), pendingList(now.pending)));
  return markChanged(id === change);
}

function since(lane, id, change) {
  if (change < 0) return [`${laneName(lane)}, at event ${id}`];
  if (change === id) return [`${laneName(lane)}: as event ${id} leaves them`];
  const jump = make("button", { type: "button", class: "link" }, `event ${change}`);
  jump.addEventListener("click", () => goTo(change));
  return [`${laneName(lane)}: unchanged since `, jump];
}

function markChanged(here) {
  for (const tag of by("held").querySelectorAll(".changed")) tag.hidden = !here;
}

function store(name, part, changed, content, state) {
  return make("section", { class: "store", "data-store": part, "aria-label": name },
    make("h3", {}, name, state, changed && make("span", { class: "tag note changed" }, "changed here")), content);
}

const nothing = (text) => make("div", { class: "box" }, make("p", { class: "nothing" }, text));

function memory(keys) {
  if (keys === null) return nothing("No process runs, or nothing is known.");
  if (keys.length === 0) return nothing("No key.");
  const head = make("tr", {}, ["id", "purpose", "state", "bytes"].map((name) => make("th", { scope: "col" }, name)));
  const rows = keys.map((key) => make("tr", {}, make("td", { class: "number" }, String(key.id)), make("td", {}, key.purpose),
    make("td", {}, key.active ? make("span", { class: "tag good" }, "active") : make("span", { class: "tag" }, "retired")),
    make("td", {}, make("code", {}, key.bytes))));
  return make("div", { class: "box" }, make("table", {}, make("thead", {}, head), make("tbody", {}, rows)));
}

/** In a word, what the two columns show. */
function sameness({ durable, seen }) {
  if (durable === null && seen === null) return null;
  const same = JSON.stringify(durable) === JSON.stringify(seen);
  return same ? make("span", { class: "tag" }, "all durable") : make("span", { class: "tag warn" }, "seen is not durable");
}

/** What is durable beside what a reader sees. */
function twoSides({ durable, seen }, absent, split) {
  if (durable === null && seen === null) return nothing(`Durable and seen: ${absent}.`);
  const [left, right] = [durable, seen].map((text) => (text === null ? [`(${absent})`] : split(text)));
  if (left.length === 0 && right.length === 0) return nothing("Durable and seen: empty.");
  // A file that is there with no byte in it is not the same as no file.
  return make("div", { class: "box" }, difference("durable", "seen", left, right, "durable and seen"));
}

function pendingList(pending) {
  if (pending.length === 0) return nothing("Nothing: all of it is durable.");
  return make("div", { class: "box" }, make("ol", {}, pending.map((operation) => make("li", {}, operation))));
}
