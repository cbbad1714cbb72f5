// A scrolling spectrogram of pieces of audio, 0 to 8 kHz, 60 dB.

const SIZE = 512;
const FLOOR = -75; // dB
const window_ = Float32Array.from({ length: SIZE }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / SIZE));

// In-place radix-2 transform of real and imaginary parts.
function fft(re, im) {
  const n = re.length;
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) [re[i], re[j], im[i], im[j]] = [re[j], re[i], im[j], im[i]];
  }
  for (let size = 2; size <= n; size <<= 1) {
    const step = (-2 * Math.PI) / size;
    for (let start = 0; start < n; start += size) {
      for (let k = 0; k < size / 2; k++) {
        const c = Math.cos(step * k), s = Math.sin(step * k);
        const a = start + k, b = a + size / 2;
        const x = re[b] * c - im[b] * s, y = re[b] * s + im[b] * c;
        [re[b], im[b], re[a], im[a]] = [re[a] - x, im[a] - y, re[a] + x, im[a] + y];
      }
    }
  }
}

export class Spectrogram {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.clear();
  }

  clear() {
    this.rest = new Float32Array(0);
    this.context.fillStyle = "#06090f";
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }

  draw(samples, rate) {
    const hop = Math.round(rate * 0.02);
    const all = new Float32Array(this.rest.length + samples.length);
    all.set(this.rest);
    all.set(samples, this.rest.length);
    let at = 0;
    for (; at + SIZE <= all.length; at += hop) this.column(all.subarray(at, at + SIZE), rate);
    this.rest = all.slice(Math.min(at, all.length));
  }

  column(frame, rate) {
    const { width, height } = this.canvas;
    const re = frame.map((x, i) => x * window_[i]), im = new Float32Array(SIZE);
    fft(re, im);
    this.context.drawImage(this.canvas, -1, 0);
    const column = this.context.createImageData(1, height);
    for (let y = 0; y < height; y++) {
      const bin = Math.min(SIZE / 2 - 1, Math.floor(((height - 1 - y) / height) * 8000 * (SIZE / rate)));
      const power = (re[bin] ** 2 + im[bin] ** 2) / (SIZE * 24);
      const t = Math.max(0, Math.min(1, 1 - (10 * Math.log10(power + 1e-12)) / FLOOR));
      column.data.set([255 * t ** 1.6, 255 * Math.min(1, 1.25 * t) ** 1.2 * 0.85 + 9 * (1 - t), 90 * Math.sin(Math.PI * t) + 200 * t ** 4 + 15, 255], 4 * y);
    }
    this.context.putImageData(column, width - 1, 0);
  }
}
