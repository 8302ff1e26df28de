// The head of the page: what was run, how it came out, what is violated, and the story.

function showMasthead() {
  document.title = run.title;
  by("title").textContent = run.title;
  const found = run.violations.length;
  by("result").classList.add(found > 0 ? "bad" : "good");
  by("result").textContent = found > 0 ? plural(found, "violation") : "nothing violated";
  const facts = [
    ["Scenario", run.scenario], ["Subject", run.subject], ["Disk", run.lie === null ? run.profile : `${run.profile}, lying: ${run.lie}`],
    ["Entries", run.entries.toLocaleString("en")], ["Crashes", run.crashes.toLocaleString("en")],
    ["Events", run.events.length.toLocaleString("en")], ["Draws", run.draws.toLocaleString("en")], ["Trace", run.trace_hash],
  ];
  by("facts").append(...facts.map(([name, value]) => make("div", {}, make("dt", {}, name),
    make("dd", { class: name === "Trace" ? "mono" : null }, String(value)))));
  by("reproduce").textContent = run.reproduce;
  by("copy").addEventListener("click", copy);
}

async function copy() {
  let done = false;
  try {
    await navigator.clipboard.writeText(run.reproduce);
    done = true;
  } catch {
    // A page from a file may not reach the clipboard; what is selected can still be copied.
    getSelection().selectAllChildren(by("reproduce"));
    done = document.execCommand("copy");
  }
  by("copy").textContent = done ? "Copied" : "Selected";
  say(done ? "The command is copied." : "The command is selected: copy it with Ctrl and C.");
  setTimeout(() => { by("copy").textContent = "Copy"; }, 2000);
}

function showViolations(goTo) {
  const list = run.violations;
  by("violations").hidden = list.length === 0;
  by("overview").classList.toggle("calm", list.length === 0);
  by("violations-count").textContent = plural(list.length, "violation");
  // A run may break hundreds of rules at once: the first is open, the rest stand ready.
  by("violations-list").append(...list.map((violation, index) => oneViolation(violation, index === 0, goTo)));
}

function oneViolation(violation, open, goTo) {
  const body = make("div", { class: "body" });
  const element = make("details", { class: "violation", open },
    make("summary", {}, make("span", { class: "tag bad" }, cut("", violation.invariant)), violation.says), body);
  // Compared when first looked at: of hundreds, most never are.
  const show = () => { if (element.open && body.childElementCount === 0) fill(body, evidence(violation, goTo)); };
  element.addEventListener("toggle", show);
  show();
  return element;
}

function evidence(violation, goTo) {
  const jump = violation.event !== null && make("button", { type: "button", class: "link" }, `Show event ${violation.event}`);
  if (jump) jump.addEventListener("click", () => goTo(violation.event));
  const { expected, found } = violation;
  return [
    violation.evidence !== "" && make("p", {}, violation.evidence),
    (expected !== null || found !== null) && make("div", { class: "scroll" },
      difference("expected", "found", lines(expected), lines(found), `${violation.invariant}: expected and found`)),
    make("div", { class: "names" }, make("span", { class: "soft" }, "Fingerprint ", make("code", {}, violation.fingerprint)), jump),
  ];
}

const lines = (text) => (text === null ? [] : text.replace(/\n$/, "").split("\n"));

function showStory() {
  by("story").hidden = run.story.length === 0;
  if (run.story.length === 0) by("overview").classList.add("calm");
  by("story-list").append(...run.story.map((sentence) => make("li", {}, sentence)));
}
