"use strict";

// A heat map is left and entered with Tab, and walked through with the arrow keys. What the cell holds is said below it.
for (const grid of document.querySelectorAll("table.points")) {
  const detail = document.getElementById(grid.getAttribute("aria-describedby"));
  const rows = [...grid.tBodies[0].rows].map(row => [...row.querySelectorAll("[role=gridcell]")]);
  const say = cell => { detail.textContent = cell.getAttribute("aria-label"); };
  const place = cell => {
    const at = rows.findIndex(row => row.includes(cell));
    return at < 0 ? null : [at, rows[at].indexOf(cell)];
  };
  let entry = rows[0][0];
  entry.tabIndex = 0;
  grid.addEventListener("mouseover", event => {
    const cell = event.target.closest("[role=gridcell]");
    if (cell) say(cell);
  });
  grid.addEventListener("focusin", event => {
    const cell = event.target.closest("[role=gridcell]");
    if (!cell) return;
    entry.tabIndex = -1;
    entry = cell;
    entry.tabIndex = 0;
    say(cell);
  });
  grid.addEventListener("click", event => event.target.closest("[role=gridcell]")?.focus());
  grid.addEventListener("keydown", event => {
    const at = place(event.target);
    if (!at || event.ctrlKey || event.metaKey || event.altKey) return;
    let [row, column] = at;
    const last = rows[0].length - 1;
    switch (event.key) {
      case "ArrowUp": row -= 1; break;
      case "ArrowDown": row += 1; break;
      case "ArrowLeft": column -= 1; break;
      case "ArrowRight": column += 1; break;
      case "Home": column = 0; break;
      case "End": column = last; break;
      default: return;
    }
    event.preventDefault();
    rows[row]?.[column]?.focus();
  });
}

// Probes: filtered by name and by whether they were hit, sorted by a click on a head.
for (const card of document.querySelectorAll(".probes")) {
  const body = card.querySelector("tbody");
  const filter = card.querySelector("[data-filter]");
  const never = card.querySelector("[data-never]");
  const shown = card.querySelector("[data-shown]");
  const show = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of body.rows) {
      const name = row.dataset.name.toLowerCase();
      row.hidden = !words.every(word => name.includes(word)) || (never.checked && row.dataset.hits !== "0");
      count += row.hidden ? 0 : 1;
    }
    shown.textContent = `${count} of ${body.rows.length} shown`;
  };
  filter.addEventListener("input", show);
  never.addEventListener("change", show);
  show();
  for (const button of card.querySelectorAll("[data-sort]")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const by = button.dataset.sort === "hits"
        ? (one, other) => one.dataset.hits - other.dataset.hits
        : (one, other) => (one.dataset.name < other.dataset.name ? -1 : 1);
      const sorted = [...body.rows].sort(by);
      if (down) sorted.reverse();
      body.append(...sorted);
    });
  }
}

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = "Copied";
    } catch {
      // Where a page may not use the clipboard, the line is selected instead.
      getSelection().selectAllChildren(button.previousElementSibling);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}
