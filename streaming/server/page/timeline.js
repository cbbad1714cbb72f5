// Sound over time: a spectrogram, above it the words where they were spoken, or, of a translation, where they were written, each
// with a line to the sound that it translates. It scrolls; while it stands at its end, it follows the sound.

import { BANDS, HOP, Spectrum } from "./spectrum.js";

const SCALE = 130; // px a second
const TILE = 512; // columns of spectrum in one picture
const TILES = 90; // kept: a quarter of an hour
const ROWS = 2, ROW = 20; // px, of words
const GAP = 44; // px between words and spectrogram, for lines
const BRACKET = 10; // px in its place where words stand above their own sound
const AXIS = 18; // px
const FONT = "13px system-ui, sans-serif";

export class Timeline {
  // `picked` is told in words what the chosen word says.
  constructor({ scroll, length, canvas, picked }) {
    Object.assign(this, { scroll, length, canvas, picked });
    this.context = canvas.getContext("2d");
    this.following = true;
    scroll.addEventListener("scroll", () => {
      this.following = scroll.scrollLeft + scroll.clientWidth >= scroll.scrollWidth - 4;
      this.dirty();
    });
    scroll.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("pointermove", ({ offsetX, offsetY }) => this.point(offsetX, offsetY));
    canvas.addEventListener("pointerdown", ({ offsetX, offsetY }) => this.point(offsetX, offsetY));
    canvas.addEventListener("pointerleave", () => this.pick(null));
    new ResizeObserver(() => this.dirty()).observe(scroll);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.recolour());
    this.recolour();
    this.clear();
  }

  clear() {
    this.tiles = new Map(); // number -> {levels, canvas}
    this.columns = 0;
    this.seconds = 0;
    this.finals = []; // words of finished segments, laid out
    this.partial = [];
    this.translated = false;
    this.chosen = null;
    this.picked.value = "";
    this.dirty();
  }

  // A stream begins at a place on the page's time axis.
  begin(offset, rate) {
    this.spectrum = new Spectrum(rate);
    this.rate = rate;
    this.columns = Math.round(offset / HOP);
    this.seconds = offset;
    this.following = true;
  }

  sound(samples) {
    for (const column of this.spectrum.push(samples)) this.store(column);
    this.seconds += samples.length / this.rate;
    this.dirty();
  }

  store(column) {
    const number = Math.floor(this.columns / TILE);
    let tile = this.tiles.get(number);
    if (!tile) {
      this.tiles.set(number, (tile = { levels: new Uint8Array(TILE * BANDS), painted: 0, filled: 0 }));
      for (const old of this.tiles.keys()) if (old <= number - TILES) this.tiles.delete(old);
    }
    const x = this.columns++ % TILE;
    tile.levels.set(column, x * BANDS);
    tile.filled = x + 1;
  }

  // Words of the running segment.
  running(words) {
    const at = this.partial.indexOf(this.chosen);
    this.partial = this.laid(words);
    if (at >= 0) this.chosen = this.partial[at] ?? null; // the same word, anew
    this.dirty();
  }

  // Words of a finished segment.
  finished(words) {
    this.running(words);
    this.finals.push(...this.partial);
    this.partial = [];
  }

  laid(words) {
    this.translated ||= words.some((word) => word.source_ms != null);
    this.context.font = FONT;
    const edge = Array.from({ length: ROWS }, (_, row) => this.finals.findLast((word) => word.row === row)?.right ?? 0);
    return words.filter((word) => !this.translated || word.emitted_ms != null).map((word) => {
      const width = this.context.measureText(word.text).width;
      const wanted = this.translated ? (word.emitted_ms / 1000) * SCALE : ((word.start + word.end) / 2) * SCALE - width / 2;
      const free = edge.findIndex((right) => right + 6 <= wanted);
      const row = this.translated ? 0 : free >= 0 ? free : edge.indexOf(Math.min(...edge)); // what is written stands in order
      const left = Math.max(wanted, edge[row] + (edge[row] ? 7 : 0), 2);
      edge[row] = left + width;
      const source = this.translated ? (word.source_ms == null ? null : (word.source_ms / 1000) * SCALE) : null;
      return { ...word, row, left, right: left + width, source };
    });
  }

  dirty() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  recolour() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    this.colours = Object.fromEntries(["ink", "dim", "line", "accent", "lane"].map((name) => [name, colour(`--${name}`)]));
    const stops = [0, 1, 2, 3, 4].map((i) => colour(`--heat-${i}`).match(/[0-9a-f]{2}/gi).map((hex) => parseInt(hex, 16)));
    this.heat = Array.from({ length: 256 }, (_, level) => {
      const at = (level / 255) * (stops.length - 1), i = Math.min(Math.floor(at), stops.length - 2);
      return stops[i].map((from, c) => Math.round(from + (stops[i + 1][c] - from) * (at - i)));
    });
    for (const tile of this.tiles?.values() ?? []) tile.painted = 0;
    this.dirty();
  }

  draw() {
    const { scroll, canvas, context } = this;
    const width = scroll.clientWidth, height = scroll.clientHeight, ratio = devicePixelRatio;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.width = `${width}px`; // its parent is as long as the sound
    }
    const whole = Math.max(this.seconds * SCALE, ...[this.finals.at(-1), this.partial.at(-1)].map((word) => (word?.right ?? 0) + 12));
    this.length.style.width = `${Math.max(width, Math.ceil(whole))}px`;
    if (this.following) scroll.scrollLeft = scroll.scrollWidth;
    const from = scroll.scrollLeft;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const rows = this.translated ? 1 : ROWS;
    const top = rows * ROW + (this.translated ? GAP : BRACKET), bottom = height - AXIS;
    context.fillStyle = this.colours.lane;
    context.beginPath();
    context.roundRect(0, top, width, bottom - top, 8);
    context.fill();
    context.save();
    context.clip();
    this.spectra(from, width, top, bottom);
    context.restore();
    this.axis(from, width, bottom);
    this.visible = [...this.finals.slice(this.firstAfter(from)), ...this.partial].filter((word) => this.shows(word, from, width));
    for (const word of this.visible) if (word !== this.chosen) this.word(word, from, top, bottom);
    if (this.visible.includes(this.chosen)) this.word(this.chosen, from, top, bottom, true);
  }

  // Index of the first finished word that may reach behind x: words stand nearly in order.
  firstAfter(x) {
    let low = 0, high = this.finals.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.finals[middle].right < x) low = middle + 1;
      else high = middle;
    }
    return Math.max(0, low - 8);
  }

  shows(word, from, width) {
    const [left, right] = [Math.min(word.left, word.source ?? word.left), Math.max(word.right, word.source ?? word.right)];
    return right >= from && left <= from + width;
  }

  spectra(from, width, top, bottom) {
    const { context } = this, step = HOP * SCALE;
    const first = Math.floor(from / step / TILE), last = Math.floor((from + width) / step / TILE);
    context.imageSmoothingEnabled = true;
    for (let number = first; number <= last; number++) {
      const tile = this.tiles.get(number);
      if (!tile) continue;
      this.paint(tile);
      context.drawImage(tile.canvas, 0, 0, tile.filled, BANDS, number * TILE * step - from, top, tile.filled * step, bottom - top);
    }
  }

  paint(tile) {
    tile.canvas ??= Object.assign(document.createElement("canvas"), { width: TILE, height: BANDS });
    const count = tile.filled - tile.painted;
    if (!count) return;
    const context = tile.canvas.getContext("2d"), picture = context.createImageData(count, BANDS);
    for (let x = 0; x < count; x++) {
      for (let y = 0; y < BANDS; y++) {
        const [r, g, b] = this.heat[tile.levels[(tile.painted + x) * BANDS + BANDS - 1 - y]];
        picture.data.set([r, g, b, 255], 4 * (y * count + x));
      }
    }
    context.putImageData(picture, tile.painted, 0);
    tile.painted = tile.filled;
  }

  axis(from, width, bottom) {
    const { context } = this;
    context.font = FONT.replace("13px", "11px");
    context.textAlign = "center";
    context.textBaseline = "top";
    for (let second = Math.max(1, Math.ceil(from / SCALE)); second <= this.seconds && second * SCALE <= from + width; second++) {
      const x = second * SCALE - from;
      context.fillStyle = this.colours.line;
      context.fillRect(x, bottom + 1, 1, 4);
      context.fillStyle = this.colours.dim;
      context.fillText(clock(second), x, bottom + 6);
    }
  }

  word(word, from, top, bottom, chosen = false) {
    const { context } = this, { ink, dim, accent } = this.colours;
    const left = word.left - from, middle = (left + word.right - from) / 2, base = word.row * ROW + 15;
    context.font = chosen ? `600 ${FONT}` : FONT;
    context.textAlign = "center";
    context.textBaseline = "alphabetic";
    context.fillStyle = chosen ? accent : word.settled ? ink : dim;
    context.fillText(word.text, middle, base);
    context.strokeStyle = context.fillStyle = accent;
    context.lineWidth = chosen ? 2.5 : 1.25;
    if (word.source != null) {
      const x = word.source - from, y = base + 6;
      context.globalAlpha = chosen ? 1 : 0.75;
      context.beginPath();
      context.moveTo(middle, y);
      context.bezierCurveTo(middle, y + (top - y) * 0.6, x, top - (top - y) * 0.6, x, top);
      context.stroke();
      context.globalAlpha = chosen ? 0.9 : 0.3;
      context.fillRect(Math.round(x), top, 1, bottom - top); // crisp
      context.globalAlpha = 1;
      context.beginPath();
      context.arc(x, top, chosen ? 4 : 2.75, 0, 2 * Math.PI);
      context.fill();
    } else if (!this.translated) {
      const start = word.start * SCALE - from, end = Math.max(word.end * SCALE - from, start + 3);
      context.globalAlpha = chosen ? 1 : word.settled ? 0.8 : 0.4;
      context.beginPath();
      context.roundRect(start + 1, top - 6, end - start - 2, 3, 1.5);
      context.fill();
    }
    context.globalAlpha = 1;
  }

  point(x, y) {
    const at = x + this.scroll.scrollLeft;
    const row = Math.floor(y / ROW);
    const over = (word) => (row < ROWS && word.row === row ? at >= word.left - 4 && at <= word.right + 4 : row >= ROWS && inside(word, at));
    const inside = (word, px) => (word.source == null ? px >= word.start * SCALE && px <= word.end * SCALE : Math.abs(px - word.source) < 12);
    this.pick(this.visible?.find(over) ?? null);
  }

  key(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const words = [...this.finals, ...this.partial];
    if (!step || !words.length || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const at = this.chosen ? words.indexOf(this.chosen) + step : words.length - 1;
    const word = words[Math.max(0, Math.min(words.length - 1, at))];
    this.pick(word);
    this.show((word.left + word.right) / 2 / SCALE);
  }

  // Scroll to a time.
  show(seconds) {
    this.following = false;
    this.scroll.scrollLeft = seconds * SCALE - this.scroll.clientWidth / 2;
    this.dirty();
  }

  pick(word) {
    if (word === this.chosen) return;
    this.chosen = word;
    this.picked.value = word ? said(word) : "";
    this.dirty();
  }
}

function said({ text, start, end, confidence, source_ms, emitted_ms }) {
  const sure = `${Math.round(confidence * 100)} % sure`;
  if (emitted_ms == null) return `${text}: ${start.toFixed(2)} to ${end.toFixed(2)} s, ${sure}`;
  if (source_ms == null) return `${text}: written at ${(emitted_ms / 1000).toFixed(2)} s, ${sure}`;
  const behind = ((emitted_ms - source_ms) / 1000).toFixed(2);
  return `${text}: written at ${(emitted_ms / 1000).toFixed(2)} s, ${behind} s behind the sound at ${(source_ms / 1000).toFixed(2)} s, ${sure}`;
}

export function clock(seconds) {
  const [m, s] = [Math.floor(seconds / 60), Math.floor(seconds % 60)];
  return m < 60 ? `${m}:${String(s).padStart(2, "0")}` : `${Math.floor(m / 60)}:${String(m % 60).padStart(2, "0")}:${String(s).padStart(2, "0")}`;
}
