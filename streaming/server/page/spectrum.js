// Short-time spectra of sound: columns of levels on the mel scale, one every 20 ms.

export const BANDS = 72;
export const HOP = 0.02; // seconds
const LOWEST = 60, HIGHEST = 8000; // Hz
const FLOOR = -78, CEILING = -18; // dB of a full-scale sine: levels 0 and 255

const mel = (f) => 2595 * Math.log10(1 + f / 700);
const hertz = (m) => 700 * (10 ** (m / 2595) - 1);

export class Spectrum {
  constructor(rate) {
    this.size = 2 ** Math.ceil(Math.log2(rate * 0.032));
    this.hop = Math.round(rate * HOP);
    this.window = Float32Array.from({ length: this.size }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / this.size));
    this.cos = Float32Array.from({ length: this.size / 2 }, (_, i) => Math.cos((2 * Math.PI * i) / this.size));
    this.sin = Float32Array.from({ length: this.size / 2 }, (_, i) => Math.sin((2 * Math.PI * i) / this.size));
    const top = mel(Math.min(HIGHEST, rate / 2)), bottom = mel(LOWEST);
    this.edges = Uint16Array.from({ length: BANDS + 1 }, (_, i) => (hertz(bottom + ((top - bottom) * i) / BANDS) * this.size) / rate);
    this.rest = new Float32Array(this.size - this.hop); // so that column k is centred on the sound around k hops
  }

  // Columns (BANDS bytes each, low to high) that the samples complete.
  push(samples) {
    const all = new Float32Array(this.rest.length + samples.length);
    all.set(this.rest);
    all.set(samples, this.rest.length);
    const columns = [];
    let at = 0;
    for (; at + this.size <= all.length; at += this.hop) columns.push(this.column(all.subarray(at, at + this.size)));
    this.rest = all.slice(at);
    return columns;
  }

  column(frame) {
    const re = frame.map((x, i) => x * this.window[i]), im = new Float32Array(this.size);
    this.transform(re, im);
    const scale = 16 / this.size ** 2; // a full-scale sine has power 1
    return Uint8Array.from({ length: BANDS }, (_, band) => {
      let power = 0;
      for (let k = this.edges[band], last = Math.max(k, this.edges[band + 1] - 1); k <= last; k++) power = Math.max(power, re[k] ** 2 + im[k] ** 2);
      const level = 10 * Math.log10(power * scale + 1e-12);
      return Math.max(0, Math.min(255, (255 * (level - FLOOR)) / (CEILING - FLOOR)));
    });
  }

  // In place, radix 2.
  transform(re, im) {
    const n = this.size;
    for (let i = 1, j = 0; i < n; i++) {
      let bit = n >> 1;
      for (; j & bit; bit >>= 1) j ^= bit;
      j ^= bit;
      if (i < j) [re[i], re[j], im[i], im[j]] = [re[j], re[i], im[j], im[i]];
    }
    for (let size = 2; size <= n; size <<= 1) {
      const step = n / size, half = size / 2;
      for (let start = 0; start < n; start += size) {
        for (let k = 0; k < half; k++) {
          const c = this.cos[k * step], s = -this.sin[k * step], a = start + k, b = a + half;
          const x = re[b] * c - im[b] * s, y = re[b] * s + im[b] * c;
          re[b] = re[a] - x;
          im[b] = im[a] - y;
          re[a] += x;
          im[a] += y;
        }
      }
    }
  }
}
