// Subtitles (SubRip) of at most two lines of 42 characters and 7 seconds, cut between words: at the ends of sentences and at pauses
// first. A wide character (Chinese, Japanese, Korean) counts two.

const LINE = 42, LONGEST = 7, SHORTEST = 1, PAUSE = 0.7;
const WIDE = /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1faff}\u{20000}-\u{3fffd}]/u;

export function subtitles(segments) {
  const cues = segments.flatMap((segment) => cut(pieces(segment)));
  return cues.map(({ start, end, group }, i) => {
    const next = cues[i + 1]?.start ?? Infinity;
    const until = Math.max(start + 0.001, Math.min(Math.max(end, start + SHORTEST), start + LONGEST, next));
    return `${i + 1}\n${clock(start)} --> ${clock(until)}\n${laid(group).join("\n")}\n`;
  }).join("\n");
}

// Words, and parts of words longer than a line; `space` is what separates each from the one before.
function pieces({ text, words }) {
  let position = 0;
  return words.filter((word) => word.text.trim()).flatMap((word) => {
    const found = text.indexOf(word.text, position);
    const space = found >= 0 && found === position && position ? "" : " "; // writing without spaces
    if (found >= 0) position = found + word.text.length;
    const parts = chopped(word.text.trim()), length = Math.max(0, word.end - word.start) / parts.length;
    return parts.map((part, i) => ({ text: part, space: i ? "" : space, start: word.start + i * length, end: word.start + (i + 1) * length }));
  });
}

function chopped(word) {
  const parts = [""];
  for (const character of word) {
    if (width(parts.at(-1) + character) > LINE) parts.push("");
    parts[parts.length - 1] += character;
  }
  return parts;
}

function cut(all) {
  const cues = [];
  let cue = null;
  for (const piece of all) {
    const longer = cue && [...cue.group, piece];
    const full = !cue || !laid(longer) || piece.end - cue.start > LONGEST || piece.start - cue.end >= PAUSE || /[.?!…。？！]$/.test(cue.group.at(-1).text);
    if (full) cues.push((cue = { start: piece.start, end: piece.end, group: [piece] }));
    else Object.assign(cue, { end: piece.end, group: longer });
  }
  return cues;
}

// Pieces on one line, or on two of nearly equal length; null if they do not fit.
function laid(group) {
  const join = (part) => part.map(({ space, text }, i) => (i ? space : "") + text).join("");
  if (width(join(group)) <= LINE) return [join(group)];
  const pairs = group.slice(1).map((_, i) => [join(group.slice(0, i + 1)), join(group.slice(i + 1))]);
  const fitting = pairs.filter((pair) => pair.every((line) => width(line) <= LINE));
  const uneven = ([first, second]) => Math.abs(width(second) - width(first));
  return fitting.sort((a, b) => uneven(a) - uneven(b))[0] ?? null;
}

function width(text) {
  return [...text].reduce((sum, character) => sum + (WIDE.test(character) ? 2 : 1), 0);
}

function clock(seconds) {
  const ms = Math.round(seconds * 1000);
  const [h, m, s] = [3600000, 60000, 1000].map((unit, i) => Math.floor(ms / unit) % (i ? 60 : 100));
  return `${[h, m, s].map((n) => String(n).padStart(2, "0")).join(":")},${String(ms % 1000).padStart(3, "0")}`;
}
