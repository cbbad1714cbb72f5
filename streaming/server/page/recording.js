// Recordings in files: mono sound at the rate it was recorded with. WAV is read here, sample by sample; the rest the browser decodes.

import { SoundError } from "./microphone.js";

const FALLBACK = 48000; // Hz, for files that do not say
const PIECE = 0.1; // seconds

// {rate, seconds, exact, pieces}: `exact` if 16 bits hold every sample; `pieces` is an asynchronous iterable of Float32Arrays.
export async function openRecording(file) {
  const head = new DataView(await file.slice(0, 1 << 16).arrayBuffer());
  return (await openWave(file, head)) ?? decoded(file, head);
}

async function decoded(file, head) {
  const rate = rateOf(head) ?? FALLBACK;
  let buffer;
  try {
    buffer = await new OfflineAudioContext(1, 1, rate).decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new SoundError(`${file.name} holds no sound that this browser can read.`);
  }
  async function* pieces() {
    const size = Math.round(rate * PIECE);
    const channels = Array.from({ length: buffer.numberOfChannels }, (_, c) => buffer.getChannelData(c));
    for (let at = 0; at < buffer.length; at += size) yield mean(channels.map((channel) => channel.subarray(at, at + size)));
  }
  return { rate, seconds: buffer.duration, exact: false, pieces: pieces() };
}

function mean(channels) {
  if (channels.length === 1) return channels[0];
  return channels[0].map((_, i) => channels.reduce((sum, channel) => sum + channel[i], 0) / channels.length);
}

// The rate that a file's head names, for the browser to decode without resampling.
function rateOf(head) {
  const four = tag(head, 0);
  if (four === "fLaC" && head.byteLength > 20) return (head.getUint16(18) << 4) | (head.getUint8(20) >> 4);
  if (four === "OggS") {
    const packet = 27 + head.getUint8(26);
    if (tag(head, packet + 1) === "vorb") return head.getUint32(packet + 12, true);
    if (tag(head, packet) === "Opus") return 48000;
  }
  let at = tag(head, 0).startsWith("ID3") ? 10 + [6, 7, 8, 9].reduce((size, i) => (size << 7) | head.getUint8(i), 0) : 0;
  for (; at + 4 < head.byteLength; at++) {
    const sync = head.getUint32(at);
    if (sync >>> 21 !== 0x7ff) continue;
    const version = (sync >> 19) & 3, layer = (sync >> 17) & 3, index = (sync >> 10) & 3;
    if (version === 1 || layer !== 1 || index === 3) return null; // not MPEG layer III
    return [44100, 48000, 32000][index] / { 3: 1, 2: 2, 0: 4 }[version];
  }
  return null;
}

const READERS = { // [format, bits]: bytes at a place as a number in [-1, 1]
  "1,8": (view, at) => view.getUint8(at) / 128 - 1,
  "1,16": (view, at) => view.getInt16(at, true) / 32768,
  "1,24": (view, at) => ((view.getInt8(at + 2) << 16) | view.getUint16(at, true)) / 8388608,
  "1,32": (view, at) => view.getInt32(at, true) / 2147483648,
  "3,32": (view, at) => view.getFloat32(at, true),
  "3,64": (view, at) => view.getFloat64(at, true),
};

// A WAV file of linear samples, read piece by piece however long it is; null for anything else.
async function openWave(file, head) {
  if (tag(head, 0) !== "RIFF" || tag(head, 8) !== "WAVE") return null;
  let form = null;
  for (let at = 12; at + 8 <= head.byteLength; ) {
    const name = tag(head, at), size = head.getUint32(at + 4, true), body = at + 8;
    if (name === "fmt " && body + 16 <= head.byteLength) {
      const [format, channels, bits] = [0, 2, 14].map((i) => head.getUint16(body + i, true));
      const extended = format === 0xfffe && size >= 26;
      form = { format: extended ? head.getUint16(body + 24, true) : format, channels, bits, rate: head.getUint32(body + 4, true) };
    }
    if (name === "data") {
      const read = form && READERS[[form.format, form.bits]];
      return read && form.channels && form.rate ? wave(file, body, Math.min(size, file.size - body), read, form) : null;
    }
    at = body + size + (size & 1);
  }
  return null;
}

function wave(file, start, bytes, read, { channels, bits, rate }) {
  const width = bits / 8, frame = width * channels, frames = Math.floor(bytes / frame), size = Math.round(rate * PIECE);
  async function* pieces() {
    for (let at = 0; at < frames; at += size) {
      const count = Math.min(size, frames - at), from = start + at * frame;
      const view = new DataView(await file.slice(from, from + count * frame).arrayBuffer());
      const split = Array.from({ length: channels }, (_, c) => Float32Array.from({ length: count }, (_, i) => read(view, i * frame + c * width)));
      yield mean(split);
    }
  }
  return { rate, seconds: frames / rate, exact: bits <= 16 && channels === 1, pieces: pieces() };
}

function tag(view, at) {
  return at + 4 <= view.byteLength ? String.fromCharCode(...[0, 1, 2, 3].map((i) => view.getUint8(at + i))) : "";
}
