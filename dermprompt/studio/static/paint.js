// A mask of size × size pixels, painted on a canvas of any size at any zoom.

const MOST_BYTES = 32 * 2 ** 20; // of the past that can be undone
const MAX_ZOOM = 16;

export class Painter {
  // `changed(mask)` is called when a stroke has ended, and after whatever else changes the mask.
  constructor(canvas, changed) {
    Object.assign(this, { canvas, changed, tool: "brush", diameter: 16, colour: "#19b3a6", opacity: 0.55 });
    this.context = canvas.getContext("2d");
    this.layer = document.createElement("canvas");
    this.backdrop = null;
    this.pointers = new Map();
    this.cursor = null;
    this.reset(128);
    this.listen();
    new ResizeObserver(() => this.render()).observe(canvas);
  }

  reset(size) {
    this.size = size;
    this.mask = new Uint8Array(size * size);
    this.past = [];
    this.future = [];
    this.layer.width = this.layer.height = size;
    this.view = { zoom: 1, x: 0, y: 0 };
    this.paintLayer();
  }

  // Where a pointer is, in pixels of the mask.
  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const scale = (box.width / this.size) * this.view.zoom;
    return { x: (event.clientX - box.left) / scale + this.view.x, y: (event.clientY - box.top) / scale + this.view.y };
  }

  get area() {
    return this.mask.reduce((sum, value) => sum + value, 0) / this.mask.length;
  }

  // Set every pixel whose centre lies within the brush's radius of the way from a to b.
  stroke(a, b) {
    const radius = this.diameter / 2;
    const value = this.tool === "eraser" ? 0 : 1;
    const [dx, dy] = [b.x - a.x, b.y - a.y];
    const length = dx * dx + dy * dy;
    const from = (u, v) => Math.max(0, Math.floor(Math.min(u, v) - radius - 1));
    const to = (u, v) => Math.min(this.size - 1, Math.ceil(Math.max(u, v) + radius));
    for (let row = from(a.y, b.y); row <= to(a.y, b.y); row++) {
      for (let column = from(a.x, b.x); column <= to(a.x, b.x); column++) {
        const [px, py] = [column + 0.5 - a.x, row + 0.5 - a.y];
        const along = length ? Math.min(1, Math.max(0, (px * dx + py * dy) / length)) : 0;
        if (Math.hypot(px - along * dx, py - along * dy) <= radius) this.mask[row * this.size + column] = value;
      }
    }
  }

  // The pixels that hang together with the one under the pointer and are like it become the lesion.
  fill({ x, y }) {
    const [column, row] = [Math.floor(x), Math.floor(y)];
    if (column < 0 || row < 0 || column >= this.size || row >= this.size) return;
    const waiting = [row * this.size + column];
    while (waiting.length) {
      const place = waiting.pop();
      if (this.mask[place]) continue;
      this.mask[place] = 1;
      const at = place % this.size;
      if (at > 0) waiting.push(place - 1);
      if (at < this.size - 1) waiting.push(place + 1);
      if (place >= this.size) waiting.push(place - this.size);
      if (place < this.mask.length - this.size) waiting.push(place + this.size);
    }
  }

  remember() {
    this.past.push(this.mask.slice());
    if (this.past.length * this.mask.length > MOST_BYTES) this.past.shift();
    this.future = [];
  }

  finish() {
    this.paintLayer();
    this.changed(this.mask);
  }

  move(from, to) {
    if (!from.length) return;
    to.push(this.mask);
    this.mask = from.pop();
    this.finish();
  }

  undo() {
    this.move(this.past, this.future);
  }

  redo() {
    this.move(this.future, this.past);
  }

  clear() {
    if (!this.mask.includes(1)) return;
    this.remember();
    this.mask = new Uint8Array(this.mask.length);
    this.finish();
  }

  // Take a mask over from an image of black and white; with `quiet` it is where one left off, and nothing to undo.
  take(image, quiet = false) {
    const size = image.width;
    if (size !== this.size) this.reset(size);
    const sheet = new OffscreenCanvas(size, size).getContext("2d");
    sheet.drawImage(image, 0, 0);
    const pixels = sheet.getImageData(0, 0, size, size).data;
    if (!quiet) this.remember();
    this.mask = Uint8Array.from({ length: size * size }, (_, place) => (pixels[4 * place] > 127 ? 1 : 0));
    if (quiet) this.paintLayer();
    else this.finish();
  }

  // The mask as an image of 0 and 255.
  blob() {
    const sheet = new OffscreenCanvas(this.size, this.size);
    const pixels = new ImageData(this.size, this.size);
    this.mask.forEach((value, place) => pixels.data.set([255 * value, 255 * value, 255 * value, 255], 4 * place));
    sheet.getContext("2d").putImageData(pixels, 0, 0);
    return sheet.convertToBlob({ type: "image/png" });
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.moved(event));
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
      canvas.addEventListener(name, (event) => this.up(event));
    }
    canvas.addEventListener("pointerleave", () => this.point(null));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomAt(this.view.zoom * Math.exp(-event.deltaY / 400), event);
    }, { passive: false });
  }

  down(event) {
    this.canvas.focus({ preventScroll: true });
    // A pointer that is gone already, or one that a script made up, cannot be captured.
    try { this.canvas.setPointerCapture(event.pointerId); } catch { /* it paints all the same */ }
    event.preventDefault();
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (this.pointers.size === 2) {
      if (this.stroking) this.abandon();
      this.panning = true;
    } else if (event.button === 1 || event.button === 2 || this.spacebar) {
      this.panning = true;
    } else if (event.button === 0 && this.pointers.size === 1) {
      this.remember();
      this.stroking = event.pointerId;
      this.last = this.place(event);
      if (this.tool === "fill") this.fill(this.last);
      else this.stroke(this.last, this.last);
      this.paintLayer();
    }
  }

  moved(event) {
    this.point(this.place(event));
    if (this.panning && this.pointers.has(event.pointerId)) return this.pan(event);
    if (this.stroking !== event.pointerId || this.tool === "fill") return undefined;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const one of events.length ? events : [event]) {
      const place = this.place(one);
      this.stroke(this.last, place);
      this.last = place;
    }
    return this.paintLayer();
  }

  up(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    if (this.stroking === event.pointerId) {
      this.stroking = undefined;
      this.finish();
    }
    if (!this.pointers.size) this.panning = false;
  }

  // Two fingers: what the first had painted was no stroke.
  abandon() {
    this.mask = this.past.pop();
    this.stroking = undefined;
    this.paintLayer();
  }

  // One pointer moves the view; two also zoom by how their distance changes.
  pan(event) {
    const before = [...this.pointers.values()];
    const old = this.pointers.get(event.pointerId);
    const now = { x: event.clientX, y: event.clientY };
    this.pointers.set(event.pointerId, now);
    const after = [...this.pointers.values()];
    const scale = (this.canvas.clientWidth / this.size) * this.view.zoom;
    this.view.x -= (now.x - old.x) / scale / after.length;
    this.view.y -= (now.y - old.y) / scale / after.length;
    if (after.length === 2) {
      const apart = ([a, b]) => Math.hypot(a.x - b.x, a.y - b.y) || 1;
      const middle = { clientX: (after[0].x + after[1].x) / 2, clientY: (after[0].y + after[1].y) / 2 };
      this.zoomAt((this.view.zoom * apart(after)) / apart(before), middle);
    }
    this.bound();
  }

  // Zoom so that what is under the pointer, by default the middle, stays there.
  zoomAt(zoom, pointer) {
    const box = this.canvas.getBoundingClientRect();
    const at = pointer ?? { clientX: box.left + box.width / 2, clientY: box.top + box.height / 2 };
    const before = this.place(at);
    this.view.zoom = Math.min(MAX_ZOOM, Math.max(1, zoom));
    const after = this.place(at);
    this.view.x += before.x - after.x;
    this.view.y += before.y - after.y;
    this.bound();
  }

  bound() {
    const most = this.size * (1 - 1 / this.view.zoom);
    this.view.x = Math.min(most, Math.max(0, this.view.x));
    this.view.y = Math.min(most, Math.max(0, this.view.y));
    this.render();
    this.canvas.dispatchEvent(new Event("zoomed"));
  }

  point(place) {
    this.cursor = place;
    this.render();
  }

  // With the keyboard: arrows move the brush by half of its size, one pixel with Shift.
  nudge(dx, dy, fine) {
    const step = fine ? 1 : Math.max(1, Math.round(this.diameter / 2));
    const at = this.cursor ?? { x: this.size / 2, y: this.size / 2 };
    const inside = (value) => Math.min(this.size, Math.max(0, value));
    this.point({ x: inside(at.x + dx * step), y: inside(at.y + dy * step) });
  }

  stamp() {
    this.cursor ??= { x: this.size / 2, y: this.size / 2 };
    this.remember();
    if (this.tool === "fill") this.fill(this.cursor);
    else this.stroke(this.cursor, this.cursor);
    this.finish();
  }

  paintLayer() {
    const pixels = new ImageData(this.size, this.size);
    const [red, green, blue] = [1, 3, 5].map((k) => parseInt(this.colour.slice(k, k + 2), 16));
    this.mask.forEach((value, place) => value && pixels.data.set([red, green, blue, 255], 4 * place));
    this.layer.getContext("2d").putImageData(pixels, 0, 0);
    this.render();
  }

  render() {
    if (this.asked) return;
    this.asked = requestAnimationFrame(() => {
      this.asked = undefined;
      this.show();
    });
  }

  show() {
    const { canvas, context, view } = this;
    const side = Math.max(1, Math.round(canvas.clientWidth * devicePixelRatio));
    if (canvas.width !== side) canvas.width = canvas.height = side;
    const scale = (side / this.size) * view.zoom;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, side, side);
    context.setTransform(scale, 0, 0, scale, -view.x * scale, -view.y * scale);
    if (this.backdrop) context.drawImage(this.backdrop, 0, 0, this.size, this.size);
    context.globalAlpha = this.opacity;
    context.imageSmoothingEnabled = scale < 8; // close up one sees the pixels as they are
    context.drawImage(this.layer, 0, 0);
    context.globalAlpha = 1;
    if (this.cursor) this.ring(scale);
  }

  ring(scale) {
    const { context, cursor } = this;
    for (const [colour, width] of [["rgb(0 0 0 / 55%)", 3], ["#ffffff", 1.5]]) {
      context.beginPath();
      context.arc(cursor.x, cursor.y, this.tool === "fill" ? 3 / scale : this.diameter / 2, 0, 2 * Math.PI);
      context.strokeStyle = colour;
      context.lineWidth = (width * devicePixelRatio) / scale;
      context.stroke();
    }
  }
}
