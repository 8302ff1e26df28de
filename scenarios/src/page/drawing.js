// The lanes: lives, marks and messages on a canvas, of what is in sight only.

const HEIGHTS = [1, 2, 4, 7, 10, 14, 18, 22, 28, 36];
/** From this height on every row has its words. */
const READABLE = 14;
const HEAD = 34;

const view = {
  shown: [], // ids of the events that pass the filters, in order
  rowOf: new Int32Array(run.events.length), // the row of an event, -1 where it is filtered out
  messages: [], // of the shown events, [row, arrival row] of each message
  cursor: 0, // id of the event at the cursor
  zoom: HEIGHTS.indexOf(22),
  lane: null, // whose stores are shown: null is the cursor's
};
const height = () => HEIGHTS[view.zoom];
const readable = () => height() >= READABLE;

const size = { time: 60, lane: 60, width: 0, height: 0 };
const laneX = (lane) => size.time + (lane + 0.5) * size.lane;
const rowY = (row) => (row + 0.5) * height();

const palette = {};
const shapes = Object.fromEntries(Object.entries(SHAPES).map(([kind, { path }]) => [kind, new Path2D(path)]));

function readPalette() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["ink", "soft", "line", "edge", "accent", "good", "bad", "warn", "note", "card", "bad-ground"]) {
    palette[name] = style.getPropertyValue(`--${name}`).trim();
  }
}

/** Makes the canvas as large as what is in sight, in the pixels of the screen. */
function fitCanvas(canvas, width, tall) {
  const ratio = devicePixelRatio || 1;
  const [w, h] = [Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(tall * ratio))];
  if (canvas.width !== w) canvas.width = w;
  if (canvas.height !== h) canvas.height = h;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${tall}px`;
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, tall);
  return pen;
}

/** The row of the first shown event that is not before this one. */
const rowFrom = (id) => firstNotBelow(view.shown.length, id, (row) => view.shown[row]);
/** The row before which something that arrives then arrives. */
const rowAt = (at) => firstNotBelow(view.shown.length, at, (row) => latest[view.shown[row]]);

function drawLanes(first, last, top, tall, leads) {
  const pen = fitCanvas(by("graph"), size.width, tall);
  pen.save();
  pen.translate(0, -top);
  drawLives(pen, top, tall);
  drawMessages(pen, first, last);
  drawLeads(pen, leads);
  drawMarks(pen, first, last);
  if (!readable()) drawTimes(pen, first, last);
  pen.restore();
}

function drawLives(pen, top, tall) {
  const end = view.shown.length * height();
  const bottom = Math.min(top + tall, end);
  run.lanes.forEach((_, lane) => {
    const x = laneX(lane);
    pen.strokeStyle = palette.line;
    pen.lineWidth = 1;
    pen.setLineDash([2, 4]);
    stroke(pen, x, top, x, bottom);
    pen.setLineDash([]);
    pen.strokeStyle = palette.edge;
    pen.lineWidth = readable() ? 3 : 1.5;
    for (const [from, to] of lives[lane]) {
      const above = rowY(rowFrom(from));
      const below = to === Infinity ? end : rowY(rowFrom(to));
      if (below < top || above > bottom) continue;
      stroke(pen, x, Math.max(above, top), x, Math.min(below, bottom));
    }
  });
}

function stroke(pen, x0, y0, x1, y1) {
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  pen.stroke();
}

function drawMessages(pen, first, last) {
  for (const [row, arrival] of view.messages) {
    if (row > last || Math.max(row, arrival) < first) continue;
    const event = run.events[view.shown[row]];
    const chosen = event.id === view.cursor;
    pen.globalAlpha = chosen ? 1 : readable() ? 0.75 : 0.4;
    pen.strokeStyle = pen.fillStyle = palette[chosen ? "accent" : colourOf(event)];
    pen.lineWidth = chosen ? 2.5 : 1.25;
    const [x0, y0, x1] = [laneX(event.lane), rowY(row), laneX(event.to)];
    if (arrival < 0) drawLost(pen, x0, y0, x1);
    else drawArrow(pen, x0, y0, x1, Math.max(arrival * height(), y0 + height() * 0.4));
  }
  pen.globalAlpha = 1;
}

function drawArrow(pen, x0, y0, x1, y1) {
  stroke(pen, x0, y0, x1, y1);
  if (height() < 7) return;
  const angle = Math.atan2(y1 - y0, x1 - x0);
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  pen.beginPath();
  for (const [along, across] of [[-1, 0], [-9, -4], [-9, 4]]) {
    pen.lineTo(x1 + along * cos - across * sin, y1 + along * sin + across * cos);
  }
  pen.fill();
}

/** A message that never arrives: dashed, half of the way, and crossed out. */
function drawLost(pen, x0, y0, x1) {
  const x = x0 + (x1 - x0) * 0.55;
  pen.setLineDash([3, 3]);
  stroke(pen, x0, y0, x, y0);
  pen.setLineDash([]);
  if (height() < 7) return;
  stroke(pen, x - 3, y0 - 3, x + 3, y0 + 3);
  stroke(pen, x - 3, y0 + 3, x + 3, y0 - 3);
}

function drawMarks(pen, first, last) {
  const scale = Math.min(1.15, height() / 18);
  for (let row = first; row <= last; row += 1) {
    const event = run.events[view.shown[row]];
    const strong = counts(event);
    if (!strong && height() < READABLE) {
      // Too low for shapes: a bar in the colour, and the words beside the lanes say what it was.
      pen.fillStyle = palette[colourOf(event)];
      const wide = event.kind === "disk" || event.kind === "message" ? 10 : 18;
      pen.fillRect(laneX(event.lane) - wide / 2, rowY(row) - height() * 0.35, wide, Math.max(1, height() * 0.7));
      continue;
    }
    pen.save();
    pen.translate(laneX(event.lane), rowY(row));
    const by = strong ? Math.max(1, scale) * 1.15 : scale;
    pen.scale(by, by);
    drawMark(pen, event);
    if (violationsAt.has(event.id) && event.kind !== "violation") frame(pen);
    pen.restore();
  }
}

function drawMark(pen, event) {
  const kind = markOf(event);
  // A halo of the ground keeps a mark apart from its lane's line.
  const { filled } = SHAPES[kind];
  pen.lineWidth = filled ? 3 : 5;
  pen.strokeStyle = palette.card;
  pen.stroke(shapes[kind]);
  if (["message", "role", "client", "refused"].includes(kind)) {
    pen.fillStyle = palette.card;
    pen.fill(shapes[kind]);
  }
  pen.fillStyle = pen.strokeStyle = palette[colourOf(event)];
  pen.lineWidth = kind === "crash" ? 3 : 2;
  if (filled) pen.fill(shapes[kind]);
  else pen.stroke(shapes[kind]);
}

/** Lines from events to their words, which stand beside the lanes where rows are too low for them. */
function drawLeads(pen, leads) {
  for (const { row, y } of leads) {
    const event = run.events[view.shown[row]];
    pen.strokeStyle = palette[event.id === view.cursor ? "accent" : counts(event) ? "bad" : "edge"];
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(laneX(event.lane) + 10, rowY(row));
    pen.lineTo(size.width - 8, rowY(row));
    pen.lineTo(size.width, y);
    pen.stroke();
  }
}

/** Around an event at which something is violated. */
function frame(pen) {
  pen.strokeStyle = palette.bad;
  pen.lineWidth = 2;
  pen.strokeRect(-8, -8, 16, 16);
}

function drawTimes(pen, first, last) {
  pen.fillStyle = palette.soft;
  pen.font = "11px system-ui, sans-serif";
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  const step = Math.max(1, Math.ceil(60 / height()));
  for (let row = Math.ceil(first / step) * step; row <= last; row += step) {
    pen.fillText(run.events[view.shown[row]].at.toLocaleString("en"), size.time - 10, Math.max(rowY(row), 7));
  }
}

/** The whole run in a strip: where something counts, where the cursor is, and what is in sight. */
function drawStrip() {
  const canvas = by("strip");
  const [width, tall] = [canvas.clientWidth, canvas.clientHeight];
  const pen = fitCanvas(canvas, width, tall);
  canvas.style.width = canvas.style.height = "";
  const rows = Math.max(1, view.shown.length);
  const y = (row) => HEAD + ((row + 0.5) / rows) * (tall - HEAD);
  const events = by("events");
  const all = rows * height();
  const [from, to] = [events.scrollTop / all, Math.min(1, (events.scrollTop + events.clientHeight - HEAD) / all)];
  pen.fillStyle = palette.line;
  if (to - from < 1) pen.fillRect(0, HEAD + from * (tall - HEAD), width, Math.max(3, (to - from) * (tall - HEAD)));
  view.shown.forEach((id, row) => {
    const event = run.events[id];
    if (!counts(event)) return;
    pen.save();
    pen.translate(width / 2, y(row));
    pen.scale(0.7, 0.7);
    drawMark(pen, event.kind === "crash" ? event : { kind: "violation", tone: "bad" });
    pen.restore();
  });
  pen.fillStyle = palette.accent;
  pen.fillRect(0, y(view.rowOf[view.cursor]) - 1.5, width, 3);
}
