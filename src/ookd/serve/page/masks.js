// Masks on a canvas: COCO run lengths in, coloured shapes with an outline out.

const FILL = 105, EDGE = 235; // opacity of 255
const TRAIL = 45; // frames that a trail looks back

// The colour of an object depends on its id alone; neighbours get very different hues, as in the videos.
export function colour(id) {
  const slot = id % 21;
  return { hue: (0.58 + slot * 0.381966) % 1 * 360, light: [58, 50, 66][slot % 3] };
}

export const css = (id, alpha = 1) => {
  const { hue, light } = colour(id);
  return `hsl(${hue} 85% ${light}% / ${alpha})`;
};

function rgb(id) {
  const { hue, light } = colour(id), l = light / 100, a = 0.85 * Math.min(l, 1 - l);
  const part = (n) => {
    const k = (n + hue / 30) % 12;
    return Math.round(255 * (l - a * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return [part(0), part(8), part(4)];
}

// Lengths of background and foreground in turn, column by column.
export function lengths(counts) {
  const found = [];
  for (let at = 0; at < counts.length;) {
    let value = 0, digit = 0, more = true;
    while (more) {
      const code = counts.charCodeAt(at++) - 48;
      value |= (code & 31) << (5 * digit++);
      more = (code & 32) !== 0;
      if (!more && code & 16) value |= -1 << (5 * digit);
    }
    if (found.length > 2) value += found[found.length - 2];
    found.push(value);
  }
  return found;
}

// Whether pixel (x, y) of the frame is part of a mask.
export function covers(rle, x, y) {
  let at = x * rle.size[0] + y, inside = false;
  for (const run of lengths(rle.counts)) {
    if (at < run) return inside;
    at -= run;
    inside = !inside;
  }
  return false;
}

// The mask as an image of its box: [canvas, left, top]. The outline is `edge` pixels wide.
function shape(object, edge) {
  const [left, top, right, bottom] = object.box_xyxy.map(Math.round);
  const width = right - left, height = bottom - top, rows = object.rle.size[0];
  if (width < 1 || height < 1) return null;
  const wide = width + 2, inside = new Uint8Array(wide * (height + 2));
  let at = 0, on = false;
  for (const run of lengths(object.rle.counts)) {
    if (on) {
      for (let p = at; p < at + run; p++) {
        const x = Math.floor(p / rows) - left, y = p % rows - top;
        if (x >= 0 && x < width && y >= 0 && y < height) inside[(y + 1) * wide + x + 1] = 1;
      }
    }
    at += run;
    on = !on;
  }
  const picture = new ImageData(width, height), [r, g, b] = rgb(object.id);
  for (let y = 1, to = 0; y <= height; y++) {
    for (let x = 1; x <= width; x++, to += 4) {
      const p = y * wide + x;
      if (!inside[p]) continue;
      let deep = true;
      for (let d = 1; deep && d <= edge; d++) {
        deep = inside[p - d] && inside[p + d] && inside[p - d * wide] && inside[p + d * wide];
      }
      picture.data.set([r, g, b, deep ? FILL : EDGE], to);
    }
  }
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return [canvas, left, top];
}

// Draw the objects of a frame; `before` are earlier frames, the newest last. `unit` is a screen pixel.
export function paint(context, objects, before, followed, unit) {
  const lone = objects.some((object) => object.id === followed) ? followed : null;
  for (const object of objects) {
    const drawn = shape(object, Math.max(1, Math.round(1.5 * unit)));
    context.globalAlpha = lone === null || lone === object.id ? 1 : 0.3;
    if (drawn) context.drawImage(...drawn);
    trail(context, object, before, unit, object.id === lone);
  }
  for (const object of objects) {
    context.globalAlpha = lone === null || lone === object.id ? 1 : 0.35;
    label(context, object, unit, object.id === lone);
  }
  context.globalAlpha = 1;
}

function trail(context, object, before, unit, chosen) {
  const points = [];
  for (const frame of before.slice(chosen ? -4 * TRAIL : -TRAIL)) {
    const same = frame.objects.find((other) => other.id === object.id);
    if (same) points.push([(same.box_xyxy[0] + same.box_xyxy[2]) / 2, same.box_xyxy[3]]);
  }
  if (points.length < 2) return;
  context.strokeStyle = css(object.id, 0.9);
  context.lineWidth = (chosen ? 3 : 2) * unit;
  context.lineJoin = context.lineCap = "round";
  context.beginPath();
  points.forEach((point, i) => (i ? context.lineTo(...point) : context.moveTo(...point)));
  context.stroke();
}

function label(context, object, unit, chosen) {
  const size = (chosen ? 14 : 12) * unit, pad = 5 * unit;
  const text = `${object.class} #${object.id}  ${Math.round(object.score * 100)}%`;
  context.font = `600 ${size}px system-ui, sans-serif`;
  const wide = context.measureText(text).width + 2 * pad, high = size + 1.4 * pad;
  const left = Math.max(0, Math.min(object.box_xyxy[0], context.canvas.width - wide));
  const top = Math.max(0, object.box_xyxy[1] - high - 2 * unit);
  context.fillStyle = css(object.id, 0.95);
  context.beginPath();
  context.roundRect(left, top, wide, high, 5 * unit);
  context.fill();
  const [r, g, b] = rgb(object.id).map((value) => (value / 255) ** 2.2);
  context.fillStyle = 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
  context.textBaseline = "middle";
  context.fillText(text, left + pad, top + high / 2 + 0.5 * unit);
}
