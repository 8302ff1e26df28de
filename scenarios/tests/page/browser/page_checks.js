// What any page should be like. Each function returns a list of sentences, one for each fault.

const shortened = (text) => (text.length > 60 ? `${text.slice(0, 57)}...` : text).replace(/\s+/g, " ").trim();
const place = (element) => {
  const id = element.closest("[id]")?.id;
  return `<${element.tagName.toLowerCase()}${element.className ? `.${String(element.className).replace(/ /g, ".")}` : ""}>${id ? ` in #${id}` : ""}`;
};

/** Text nodes that a reader sees. While a dialog is open, only what is in it. */
function visibleTexts() {
  const root = document.querySelector("dialog[open]") ?? document.body;
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const element = node.parentElement;
    if (node.data.trim() === "" || ["SCRIPT", "STYLE", "NOSCRIPT", "OPTION"].includes(element.tagName)) continue;
    if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true }) || forEars(element)) continue;
    found.push({ node, element });
  }
  return found;
}

function forEars(element) {
  for (let each = element; each; each = each.parentElement) {
    if (getComputedStyle(each).clipPath === "inset(50%)") return true;
  }
  return false;
}

/** What of a box is left once the ancestors that hide or scroll have cut it; and which of them cut it. */
function clip(rect, element) {
  let { left, top, right, bottom } = rect;
  let cutter = null;
  for (let each = element; each && each !== document.documentElement; each = each.parentElement) {
    const style = getComputedStyle(each);
    if (style.position === "fixed") break;
    if (style.overflowX === "visible" && style.overflowY === "visible") continue;
    const box = each.getBoundingClientRect();
    // A pixel is not a cut: letters are narrower than their boxes.
    if ((left < box.left - 1.5 || right > box.right + 1.5 || top < box.top - 3 || bottom > box.bottom + 3) && !cutter) cutter = each;
    [left, top] = [Math.max(left, box.left), Math.max(top, box.top)];
    [right, bottom] = [Math.min(right, box.right), Math.min(bottom, box.bottom)];
  }
  return { rect: { left, top, right, bottom }, cutter };
}

const scrolls = (element) => {
  const style = getComputedStyle(element);
  return /auto|scroll/.test(`${style.overflowX} ${style.overflowY}`);
};
const hasEllipsis = (element) => getComputedStyle(element).textOverflow === "ellipsis";
const opaque = (element) => !/^rgba\(.*, 0(\.\d+)?\)$|^transparent$/.test(getComputedStyle(element).backgroundColor);

/** The nearest ancestor that is drawn over what lies under it: stuck, on a ground of its own. */
function coverOf(element) {
  for (let each = element; each; each = each.parentElement) {
    if (["sticky", "fixed"].includes(getComputedStyle(each).position) && opaque(each)) return each;
  }
  return null;
}

function textFaults() {
  const faults = [];
  const boxes = [];
  for (const { node, element } of visibleTexts()) {
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const whole of range.getClientRects()) {
      const { rect, cutter } = clip(whole, element);
      if (cutter && !scrolls(cutter)) {
        if (!hasEllipsis(cutter)) faults.push(`cut off without an ellipsis: "${shortened(node.data)}" ${place(element)} by ${place(cutter)}`);
        else if (!cutter.closest("[title]")) faults.push(`cut off without a title: "${shortened(node.data)}" ${place(element)}`);
      }
      if (rect.right - rect.left > 2 && rect.bottom - rect.top > 2) boxes.push({ ...rect, node, element, cover: coverOf(element) });
    }
  }
  boxes.sort((a, b) => a.top - b.top);
  boxes.forEach((a, index) => {
    for (let next = index + 1; next < boxes.length && boxes[next].top < a.bottom - 2; next += 1) {
      const b = boxes[next];
      if (a.node === b.node || (a.cover !== b.cover && (a.cover || b.cover))) continue;
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (across > 2 && down > 2) {
        faults.push(`"${shortened(a.node.data)}" ${place(a.element)} and "${shortened(b.node.data)}" ${place(b.element)} overlap by ${across.toFixed(1)} x ${down.toFixed(1)}`);
      }
    }
  });
  const { scrollWidth, clientWidth } = document.documentElement;
  if (scrollWidth > clientWidth) faults.push(`the page is ${scrollWidth} wide in a window of ${clientWidth}`);
  return faults.slice(0, 40);
}

const channels = (colour) => {
  const parts = colour.match(/[\d.]+/g).map(Number);
  return { rgb: parts.slice(0, 3), alpha: parts[3] ?? 1 };
};
const over = (top, alpha, under) => top.map((value, index) => value * alpha + under[index] * (1 - alpha));
function luminance(rgb) {
  const [r, g, b] = rgb.map((value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function groundOf(element) {
  const layers = [];
  for (let each = element; each; each = each.parentElement) {
    const layer = channels(getComputedStyle(each).backgroundColor);
    layers.push(layer);
    if (layer.alpha === 1) break;
  }
  return layers.reverse().reduce((under, { rgb, alpha }) => over(rgb, alpha, under), [255, 255, 255]);
}

function contrastFaults() {
  const faults = new Set();
  for (const { node, element } of visibleTexts()) {
    // What cannot be operated need not be readable, by the guideline.
    if (element.closest(":disabled")) continue;
    const style = getComputedStyle(element);
    const ground = groundOf(element);
    const { rgb, alpha } = channels(style.color);
    const [a, b] = [luminance(over(rgb, alpha, ground)), luminance(ground)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize);
    const least = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
    if (ratio < least) faults.add(`${ratio.toFixed(2)} to 1: "${shortened(node.data)}" ${place(element)}`);
  }
  return [...faults].slice(0, 40);
}

function nameFaults() {
  const faults = [];
  const ids = new Set();
  for (const { id } of document.querySelectorAll("[id]")) {
    if (ids.has(id)) faults.push(`the id ${id} is given twice`);
    ids.add(id);
  }
  for (const element of document.querySelectorAll("button, input, select, textarea, a[href], [role=listbox], [tabindex], dialog")) {
    const labelled = element.getAttribute("aria-labelledby");
    const name = element.getAttribute("aria-label") ?? (labelled && document.getElementById(labelled)?.textContent)
      ?? ([...(element.labels ?? [])].map((label) => label.textContent).join(" ") || element.textContent);
    // A sign alone is no name: "−" is read as "minus", or not at all.
    if (!/[\p{L}\p{N}]/u.test(name)) faults.push(`${place(element)} has no name`);
  }
  return faults;
}
