// The page: microphone or file in, captions out.

import { Captions } from "./captions.js";
import { Choices } from "./choices.js";
import { openMicrophone } from "./microphone.js";
import { openRecording } from "./recording.js";
import { Stream } from "./stream.js";
import { subtitles } from "./subtitles.js";
import { Timeline, clock } from "./timeline.js";

const $ = (id) => document.getElementById(id);
const timeline = new Timeline({ scroll: $("scroll"), length: $("length"), canvas: $("picture"), picked: $("picked") });
const captions = new Captions(
  { box: $("captions"), finals: $("finals"), stable: $("stable"), tail: $("tail"), latest: $("latest") },
  (seconds) => timeline.show(seconds),
);
const choices = new Choices(
  () => ($("captions").lang = choices.written),
  (status) => {
    if (status === 401) ask();
    else problem(status ? null : "The server does not answer.");
  },
);
let current = null; // what is being heard: {kind, stream, microphone, offset, newest, delays, began, running, tail}
let offset = 0; // seconds of streams that have ended: several follow each other
let name = "captions"; // of files to save

// "idle", "starting", "live", "reading" or "ending"; and a line for it.
function state(value, text, waiting = false) {
  document.body.dataset.state = value;
  document.body.classList.toggle("waiting", waiting);
  $("status").value = text;
  $("microphone").ariaLabel = { starting: "Stop", live: "Stop listening", reading: "Stop reading", ending: "Stop waiting" }[value] ?? "Listen to the microphone";
  $("file").disabled = value !== "idle";
  $("open").classList.toggle("disabled", value !== "idle");
  $("locked").hidden = value === "idle";
  const empty = !captions.segments.length;
  $("hint").hidden = value !== "idle" || !empty;
  $("txt").disabled = $("srt").disabled = empty;
  $("clear").disabled = value !== "idle" || (empty && !offset);
}

function problem(text) {
  $("trouble").textContent = text ?? "";
  $("problem").hidden = !text;
}

function begin(kind, rate, encoding) {
  problem(null);
  const start = { ...choices.start, sample_rate: rate, encoding };
  current = { kind, offset, newest: 0, delays: [], began: performance.now(), running: kind === "live" ? "Listening" : "Reading" };
  timeline.begin(offset, rate);
  $("latency").value = "–";
  $("delayed").textContent = kind === "live" ? "behind speech" : "real time";
  current.stream = new Stream(start, choices.token, hear);
  state("starting", "Connecting");
}

function sound(samples) {
  const { stream } = current;
  stream.send(samples);
  timeline.sound(samples);
  $("seconds").value = clock(current.offset + stream.samples / stream.rate);
  let sum = 0;
  for (const x of samples) sum += x * x;
  level(10 * Math.log10(sum / samples.length + 1e-9));
}

function level(decibels) {
  const shown = Math.min(0, Math.max(-60, Math.round(decibels)));
  $("level").ariaValueNow = shown;
  $("level").classList.toggle("clipping", shown > -2);
  document.body.style.setProperty("--level", 1 + shown / 60);
}

function hear(message) {
  if (message.type === "partial" || message.type === "final") caption(message);
  else if (message.type === "ready") {
    choices.learn(message.capabilities);
    resumed();
  } else if (message.type === "lag") {
    if (message.ms) state(document.body.dataset.state, `The server is ${(message.ms / 1000).toFixed(1)} s behind`, true);
    else resumed();
  } else if (message.type === "lost") state(document.body.dataset.state, "Connection lost; connecting again", true);
  else if (message.type === "waiting") state(document.body.dataset.state, `Waiting: ${message.message}`, true);
  else if (message.type === "finished" || message.type === "error") ended(message);
}

// The connection stands and keeps up.
function resumed() {
  if (current.stream.finishing) state("ending", "Waiting for the last words");
  else state(current.kind === "live" ? "live" : "reading", current.running);
}

function caption(message) {
  const shift = (word) => ({
    ...word,
    start: word.start + current.offset,
    end: word.end + current.offset,
    source_ms: word.source_ms == null ? null : word.source_ms + current.offset * 1000,
    emitted_ms: word.emitted_ms == null ? null : word.emitted_ms + current.offset * 1000,
  });
  const final = message.type === "final";
  const words = message.words.map((word) => ({ ...shift(word), settled: final || word.emitted_ms != null }));
  readings(message);
  current.tail = final ? null : { text: message.text, words };
  if (final) {
    finish({ ...shift(message), words });
    state(document.body.dataset.state, $("status").value, document.body.classList.contains("waiting"));
  } else {
    captions.running(message);
    timeline.running(words);
  }
}

function finish(segment) {
  captions.finished(segment);
  timeline.finished(segment.words);
}

// Live: how long after it was spoken a new word is on the screen, the median of the last ones. Of a file: how fast it goes.
function readings({ words }) {
  const { kind, stream, delays, began } = current, heard = stream.samples / stream.rate;
  const word = words.findLast((each) => each.source_ms == null || each.emitted_ms != null); // of a translation: a written one
  const end = word && (word.emitted_ms ?? word.end * 1000);
  if (kind === "file") {
    const speed = heard / ((performance.now() - began) / 1000);
    $("latency").value = `${speed < 10 ? speed.toFixed(1) : Math.round(speed)} ×`;
  } else if (word && end > current.newest) {
    current.newest = end;
    delays.push(Math.max(0, heard - word.end));
    if (delays.length > 9) delays.shift();
    const median = [...delays].sort((a, b) => a - b)[delays.length >> 1];
    $("latency").value = `${Math.round(median * 1000)} ms`;
  }
}

function ended(message) {
  const { stream, microphone, tail } = current;
  microphone?.stop();
  offset += stream.samples / stream.rate;
  current = null;
  if (tail?.words.length) finish({ ...tail, start: tail.words[0].start, end: tail.words.at(-1).end }); // broken off: what stands there stays
  level(-60);
  state("idle", message.type === "error" ? "Stopped" : "Done");
  if (message.type === "error") refused(message);
}

async function refused({ code, message }) {
  if (code === "connection" && (await choices.load()) !== 200) return; // a socket does not tell that a token is wanted
  problem(/[.?!]$/.test(message) ? message : `${message[0].toUpperCase()}${message.slice(1)}.`);
}

// A token is wanted.
function ask() {
  problem(choices.token ? "The server does not know this token." : "This server wants a token.");
  $("choices").showPopover();
  $("token").focus();
}

async function listen() {
  state("starting", "Opening the microphone");
  const early = []; // pieces before the stream is there
  const take = (samples) => (current ? sound(samples) : early.push(samples));
  const microphone = await openMicrophone(choices, take, () => current && stop("The microphone was taken away."));
  begin("live", microphone.rate, "pcm_s16le");
  current.microphone = microphone;
  early.splice(0).forEach(sound);
}

async function read(file) {
  state("starting", `Opening ${file.name}`);
  const { rate, exact, pieces } = await openRecording(file);
  begin("file", rate, exact ? "pcm_s16le" : "pcm_f32le");
  current.running = `Reading ${file.name}`;
  name = file.name.replace(/\.[^.]*$/, "");
  const { stream } = current;
  for await (const piece of pieces) {
    await stream.room();
    if (stream.over || stream.finishing) return;
    sound(piece);
  }
  stop();
}

// End what is being heard; the last words follow. Asked once more: do not wait for them.
function stop(why) {
  const { stream, microphone } = current;
  if (why) problem(why);
  if (stream.finishing || !stream.resumeToken) return stream.abandon();
  microphone?.stop();
  level(-60);
  state("ending", "Waiting for the last words");
  stream.finish();
}

function guarded(work) {
  return work.catch((error) => {
    current?.stream.abandon();
    state("idle", "Stopped");
    problem(error.message);
  });
}

function open(file) {
  if (file && document.body.dataset.state === "idle") guarded(read(file));
}

function save(suffix, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  link.download = `${name}.${suffix}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

$("microphone").addEventListener("click", () => {
  if (current) stop();
  else if (document.body.dataset.state === "idle") guarded(listen());
});
$("file").addEventListener("change", () => {
  open($("file").files[0]);
  $("file").value = "";
});
for (const kind of ["dragenter", "dragover"]) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    document.body.classList.add("over");
  });
}
addEventListener("dragleave", (event) => event.relatedTarget ?? document.body.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  open(event.dataTransfer.files[0]);
});
addEventListener("beforeunload", (event) => {
  if (current?.kind === "live") event.preventDefault(); // a slip of the hand would end the captions
});
$("txt").addEventListener("click", () => save("txt", captions.text));
$("srt").addEventListener("click", () => save("srt", subtitles(captions.segments)));
$("clear").addEventListener("click", () => {
  captions.clear();
  timeline.clear();
  offset = 0;
  name = "captions";
  $("seconds").value = clock(0);
  $("latency").value = "–";
  state("idle", "Ready");
});
$("dismiss").addEventListener("click", () => problem(null));

choices.load();
