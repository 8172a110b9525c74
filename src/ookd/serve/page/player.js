// The frames of one video: new ones arrive at its end, and any of them can be shown again.

import { covers, paint } from "./masks.js";

const OWN_PICTURES = 200; // that the page keeps; older ones come from the server again
const KEPT_FRAMES = 40000;
const AHEAD = 6; // pictures fetched before they are due

export class Player {
  constructor(canvas, onShow) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.onShow = onShow;
    this.wanted = () => true; // which objects are drawn
    this.followed = null;
    this.drawing = false;
    this.clear();
    const tick = () => {
      this.tick();
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  clear() {
    this.id = null;
    this.frames = new Map(); // number -> answer
    this.pictures = new Map(); // number -> bitmap, or the promise of one
    this.first = this.stop = this.at = 0;
    this.shown = -1;
    this.playing = true;
    this.edge = true; // whether the newest frame is shown as it comes
    this.running = false; // whether more frames will come
    this.followed = null;
    this.size = [0, 0];
    this.canvas.hidden = true;
  }

  open(id, width, height) {
    this.clear();
    this.id = id;
    this.running = true;
    this.resize(width, height);
  }

  resize(width, height) {
    this.size = [width, height];
    if (width) [this.canvas.width, this.canvas.height] = this.size;
  }

  // The next frame; `picture` is a blob if the page already has it.
  add(answer, picture = null) {
    this.frames.set(answer.frame, answer);
    this.stop = answer.frame + 1;
    if (this.stop - this.first > KEPT_FRAMES) this.forget(this.stop - KEPT_FRAMES);
    if (picture) this.keep(answer.frame, createImageBitmap(picture));
    if (this.edge && this.playing) this.at = answer.frame;
  }

  forget(first) {
    for (; this.first < first; this.first++) this.frames.delete(this.first);
    this.at = Math.max(this.at, this.first);
  }

  go(number) {
    this.at = Math.max(this.first, Math.min(number, this.stop - 1));
    this.edge = this.at === this.stop - 1 && this.running;
    this.due = null;
  }

  toggle() {
    this.playing = !this.playing;
    if (this.playing && this.at >= this.stop - 1 && !this.running) this.at = this.first;
    this.edge = this.playing && this.running && this.at >= this.stop - 1;
    this.due = null;
  }

  toEdge() {
    this.playing = this.edge = true;
    this.at = this.stop - 1;
  }

  // The object under a point of the page, or null.
  objectAt(clientX, clientY) {
    const [left, top, scale] = this.place(), frame = this.frames.get(this.shown);
    const x = Math.floor((clientX - left) / scale), y = Math.floor((clientY - top) / scale);
    if (!frame || x < 0 || y < 0 || x >= this.size[0] || y >= this.size[1]) return null;
    return frame.objects.filter(this.wanted).reverse().find((object) => covers(object.rle, x, y)) ?? null;
  }

  // The image's place on the page: left, top, and page pixels per image pixel.
  place() {
    const box = this.canvas.getBoundingClientRect(), [width, height] = this.size;
    const scale = Math.min(box.width / width, box.height / height);
    return [box.left + (box.width - scale * width) / 2, box.top + (box.height - scale * height) / 2, scale];
  }

  redraw() {
    this.shown = -1;
  }

  tick() {
    if (!this.stop || this.drawing) return;
    if (this.playing && !this.edge) this.advance();
    if (this.at !== this.shown) this.draw(this.at);
  }

  // Advance in time, at the speed of the recording.
  advance() {
    const now = performance.now(), here = this.frames.get(this.at);
    if (!this.due) this.due = { now, seconds: here?.seconds ?? 0 };
    const seconds = this.due.seconds + (now - this.due.now) / 1000;
    let next = this.at;
    while (next + 1 < this.stop && (this.frames.get(next + 1)?.seconds ?? 0) <= seconds) next++;
    this.at = next;
    if (this.at >= this.stop - 1) {
      this.edge = this.running;
      this.playing = this.running;
    }
    for (let n = next + 1; n < Math.min(next + AHEAD, this.stop); n++) this.picture(n);
  }

  async draw(number) {
    this.drawing = true;
    try {
      const answer = this.frames.get(number), bitmap = await this.picture(number);
      if (!answer || !bitmap) {
        this.shown = number;
        return;
      }
      if (!this.size[0]) this.resize(bitmap.width, bitmap.height);
      this.canvas.hidden = false;
      this.context.drawImage(bitmap, 0, 0, ...this.size);
      const before = [];
      for (let n = Math.max(this.first, number - 180); n <= number; n++) {
        if (this.frames.has(n)) before.push(this.frames.get(n));
      }
      const [, , scale] = this.place();
      paint(this.context, answer.objects.filter(this.wanted), before, this.followed, 1 / (scale || 1));
      this.shown = number;
      this.onShow(answer);
    } finally {
      this.drawing = false;
    }
  }

  // The image of a frame as a promise; null if it is gone.
  picture(number) {
    if (!this.pictures.has(number)) this.keep(number, this.fetched(number));
    return this.pictures.get(number);
  }

  keep(number, bitmap) {
    this.pictures.set(number, bitmap);
    while (this.pictures.size > OWN_PICTURES) {
      const [oldest, picture] = this.pictures.entries().next().value;
      this.pictures.delete(oldest);
      Promise.resolve(picture).then((one) => one?.close());
    }
  }

  async fetched(number) {
    const answer = await fetch(`/videos/${this.id}/frames/${number}/picture`).catch(() => null);
    return answer?.ok ? createImageBitmap(await answer.blob()) : null;
  }
}
