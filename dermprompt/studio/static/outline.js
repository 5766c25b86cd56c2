// The outline of a mask as a smooth line: marching squares on the mask, a little blurred.

// Mask images are read once.
const known = new Map();

export async function outlineOf(url) {
  if (!known.has(url)) known.set(url, trace(url));
  if (known.size > 200) known.delete(known.keys().next().value);
  return known.get(url);
}

async function trace(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  const size = image.naturalWidth;
  const sheet = new OffscreenCanvas(size, size).getContext("2d");
  sheet.drawImage(image, 0, 0);
  const pixels = sheet.getImageData(0, 0, size, size).data;
  return { size, path: contour(blurred((x, y) => pixels[4 * (y * size + x)] / 255, size), size) };
}

// Means of 3 × 3 pixels, with a frame of nothing around them.
function blurred(value, size) {
  const wide = size + 2;
  const field = new Float32Array(wide * wide);
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      let [sum, number] = [0, 0];
      for (let v = Math.max(0, y - 1); v <= Math.min(size - 1, y + 1); v++) {
        for (let u = Math.max(0, x - 1); u <= Math.min(size - 1, x + 1); u++) {
          sum += value(u, v);
          number += 1;
        }
      }
      field[(y + 1) * wide + x + 1] = sum / number;
    }
  }
  return field;
}

// Which sides of a square the line crosses, by which of its corners lie inside: pairs of top, right, bottom, left.
const SIDES = [[], [3, 0], [0, 1], [3, 1], [1, 2], [3, 0, 1, 2], [0, 2], [3, 2], [2, 3], [2, 0], [0, 1, 2, 3], [2, 1], [1, 3], [1, 0], [0, 3], []];

// Every piece of the line begins where another ends: they are joined, so that dashes run along it.
function contour(field, size) {
  const pieces = new Map();
  const add = (a, b) => pieces.set(String(a), [a, b]);
  for (let y = 0; y <= size; y++) for (let x = 0; x <= size; x++) cross(field, size + 2, x, y, add);
  const path = new Path2D();
  for (const [key, [start]] of pieces) {
    path.moveTo(...start);
    for (let at = key; pieces.has(at); ) {
      const [, next] = pieces.get(at);
      pieces.delete(at);
      at = String(next);
      path.lineTo(...next);
    }
  }
  return path;
}

// The pieces of the line within one square, whose corners are the middles of four pixels.
function cross(field, wide, x, y, add) {
  const first = y * wide + x;
  const corners = [field[first], field[first + 1], field[first + wide + 1], field[first + wide]];
  const sides = SIDES[corners.reduce((sum, value, k) => sum + (value >= 0.5 ? 1 << k : 0), 0)];
  const share = (a, b) => (0.5 - corners[a]) / (corners[b] - corners[a]);
  // The first pixel's middle is at 0.5, and the frame's before it at -0.5.
  const point = [
    () => [x + share(0, 1) - 0.5, y - 0.5],
    () => [x + 0.5, y + share(1, 2) - 0.5],
    () => [x + share(3, 2) - 0.5, y + 0.5],
    () => [x - 0.5, y + share(0, 3) - 0.5],
  ];
  for (let k = 0; k < sides.length; k += 2) add(point[sides[k]](), point[sides[k + 1]]());
}

// Draw outlines, [url, colour, dashed] each, over a picture.
export async function drawOutlines(canvas, lines) {
  const traced = await Promise.all(lines.map(async ([url, ...how]) => [await outlineOf(url), ...how]));
  const side = Math.max(64, Math.round(canvas.clientWidth * devicePixelRatio));
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  for (const [{ size, path }, colour, dashed] of traced) {
    const scale = side / size;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.setLineDash(dashed ? [5 / scale, 4 / scale] : []);
    for (const [stroke, width] of [["rgb(0 0 0 / 40%)", 3.5], [colour, 1.8]]) {
      context.strokeStyle = stroke;
      context.lineWidth = (width * devicePixelRatio) / scale;
      context.stroke(path);
    }
  }
}
