// Two texts, line by line, side by side.

const LARGEST = 4_000_000;

/** Pairs of lines [left, right]: both where they are equal, null where one side has none. */
function pairs(left, right) {
  let head = 0;
  while (head < left.length && head < right.length && left[head] === right[head]) head += 1;
  let tail = 0;
  while (tail < left.length - head && tail < right.length - head && left.at(-1 - tail) === right.at(-1 - tail)) tail += 1;
  const a = left.slice(head, left.length - tail);
  const b = right.slice(head, right.length - tail);
  const same = (line) => [line, line];
  return [...left.slice(0, head).map(same), ...middle(a, b), ...left.slice(left.length - tail).map(same)];
}

/** What is left once the equal ends are off: by the longest common subsequence. */
function middle(a, b) {
  const width = b.length + 1;
  // Too large to compare all with all: then all of it counts as changed.
  if (a.length * b.length > LARGEST) return zip(a, b);
  const longest = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      longest[i * width + j] = a[i] === b[j]
        ? longest[(i + 1) * width + j + 1] + 1
        : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
    }
  }
  const rows = [];
  let [i, j, gone, come] = [0, 0, [], []];
  const flush = () => { rows.push(...zip(gone, come)); [gone, come] = [[], []]; };
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      flush();
      rows.push([a[i], b[j]]);
      i += 1;
      j += 1;
    } else if (j === b.length || (i < a.length && longest[(i + 1) * width + j] >= longest[i * width + j + 1])) {
      gone.push(a[i]);
      i += 1;
    } else {
      come.push(b[j]);
      j += 1;
    }
  }
  flush();
  return rows;
}

const zip = (a, b) => Array.from({ length: Math.max(a.length, b.length) }, (_, k) => [a[k] ?? null, b[k] ?? null]);

/** The part of a line that its partner does not have is marked, if the two have enough in common to be a pair. */
function marked(line, partner) {
  if (partner === null) return [line];
  let head = 0;
  while (head < line.length && head < partner.length && line[head] === partner[head]) head += 1;
  let tail = 0;
  while (tail < line.length - head && tail < partner.length - head && line.at(-1 - tail) === partner.at(-1 - tail)) tail += 1;
  if (head + tail < Math.max(line.length, partner.length) / 4) return [line];
  const differs = line.slice(head, line.length - tail);
  return [line.slice(0, head), differs && make("mark", {}, differs), line.slice(line.length - tail)].filter(Boolean);
}

/** The table of it. `signs` is what stands beside a line that only this side has. */
function difference(leftName, rightName, left, right, label) {
  const body = pairs(left, right).map(([a, b]) => {
    if (a === b) return make("tr", {}, make("td", {}, a), make("td", {}, b));
    return make("tr", {}, side(a, b, "gone", "−"), side(b, a, "come", "+"));
  });
  const head = make("tr", {}, make("th", { scope: "col" }, leftName), make("th", { scope: "col" }, rightName));
  return make("table", { class: "diff", "aria-label": label }, make("thead", {}, head), make("tbody", {}, body));
}

function side(line, partner, classes, sign) {
  if (line === null) return make("td", { class: "void" }, make("span", { class: "aloud" }, "no such line"));
  return make("td", { class: classes, "data-sign": sign }, marked(line, partner));
}
