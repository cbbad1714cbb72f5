import { Spectrogram } from "./spectrogram.js";
import { Stream } from "./stream.js";

const $ = (id) => document.getElementById(id);
const spectrogram = new Spectrogram($("spectrogram"));
let segments = []; // {text, start, end, words} that are final
let current = null; // {stream, stop}: what is being heard
let offset = 0; // seconds of streams that have ended: captions of several follow each other

const clock = (s) => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;

function status(text, bad = false) {
  $("status").value = text;
  $("status").classList.toggle("bad", bad);
}

function show(samples, rate) {
  let sum = 0;
  for (const x of samples) sum += x * x;
  $("level").value = Math.max(-60, 10 * Math.log10(sum / samples.length + 1e-9));
  $("seconds").value = clock(offset + current.stream.samples / rate);
  spectrogram.draw(samples, rate);
}

function caption(message) {
  if (message.type === "partial") {
    $("partial").textContent = message.text;
  } else {
    $("partial").textContent = "";
    if (!message.text) return;
    const shift = (w) => ({ ...w, start: w.start + offset, end: w.end + offset });
    const segment = { ...shift(message), words: message.words.map(shift) };
    segments.push(segment);
    const item = document.createElement("li"), time = document.createElement("time");
    time.textContent = clock(segment.start);
    item.append(time, segment.text);
    $("finals").append(item);
  }
  $("captions").scrollTop = $("captions").scrollHeight;
  for (const id of ["txt", "srt", "clear"]) $(id).disabled = !segments.length;
}

// How long after it was spoken the newest word is on the screen.
function latency(message) {
  const word = message.words.at(-1);
  if (!current.live || !word || word.end <= current.newest) return;
  current.newest = word.end;
  const heard = current.stream.samples / current.stream.start.sample_rate;
  $("latency").value = `${Math.max(0, Math.round((heard - word.end) * 1000))} ms`;
}

function hear(message) {
  if (message.type === "partial" || message.type === "final") {
    latency(message);
    caption(message);
  } else if (message.type === "ready") {
    status(`${message.capabilities.model}, ${message.capabilities.latency_ms} ms`);
  } else if (message.type === "lag") {
    status(message.ms ? `the server is ${(message.ms / 1000).toFixed(1)} s behind` : "live", message.ms > 0);
  } else if (message.type === "lost") {
    status("connection lost; connecting again", true);
  } else if (message.type === "finished" || message.type === "error") {
    ended(message);
  }
}

function ended(message) {
  const { stream, stop } = current;
  offset += stream.samples / stream.start.sample_rate;
  current = null;
  stop();
  $("partial").textContent = "";
  $("level").value = -60;
  $("microphone").textContent = "Listen";
  $("microphone").setAttribute("aria-pressed", "false");
  $("microphone").disabled = $("file").disabled = false;
  status(message.type === "error" ? message.message : "done", message.type === "error");
}

function begin(rate, live, stop) {
  const model = $("model").value || undefined;
  sessionStorage.setItem("token", $("token").value);
  $("hint").hidden = true;
  $("latency").value = "–";
  spectrogram.clear();
  current = { live, stop, newest: 0, stream: null };
  current.stream = new Stream({ model, sample_rate: rate, encoding: "pcm_s16le" }, $("token").value, hear);
}

async function listen() {
  if (!navigator.mediaDevices) throw new Error("browsers give the microphone to https pages and to localhost only");
  const audio = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: true };
  const media = await navigator.mediaDevices.getUserMedia({ audio });
  const context = new AudioContext();
  await context.audioWorklet.addModule(new URL("./worklet.js", import.meta.url));
  const node = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
  const stop = () => {
    node.port.onmessage = null;
    media.getTracks().forEach((track) => track.stop());
    context.close();
  };
  begin(context.sampleRate, true, once(stop));
  $("microphone").textContent = "Stop";
  $("microphone").setAttribute("aria-pressed", "true");
  $("file").disabled = true;
  node.port.onmessage = ({ data }) => {
    current.stream.send(data);
    show(data, context.sampleRate);
  };
  context.createMediaStreamSource(media).connect(node);
}

function once(work) {
  let done = false;
  return () => {
    if (!done) work();
    done = true;
  };
}

async function play(file) {
  const rate = 16000;
  status(`reading ${file.name}`);
  const context = new OfflineAudioContext(1, 1, rate); // decodes at this rate
  const buffer = await context.decodeAudioData(await file.arrayBuffer());
  const mono = new Float32Array(buffer.length);
  for (let c = 0; c < buffer.numberOfChannels; c++) {
    const channel = buffer.getChannelData(c);
    for (let i = 0; i < mono.length; i++) mono[i] += channel[i] / buffer.numberOfChannels;
  }
  begin(rate, false, () => {});
  const { stream } = current;
  $("microphone").disabled = $("file").disabled = true;
  for (let at = 0; at < mono.length && !stream.over; at += rate / 10) {
    await stream.room();
    if (stream.over) return;
    stream.send(mono.subarray(at, at + rate / 10));
    show(mono.subarray(at, at + rate / 10), rate);
  }
  stream.finish();
}

function guarded(work) {
  return work.catch((error) => {
    current?.stop();
    status(error.name === "EncodingError" ? "this file holds no audio that the browser knows" : error.message, true);
  });
}

function save(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

// Cues of at most 7 s and 84 characters, cut between words.
export function subtitles(all) {
  const cues = [];
  for (const segment of all) {
    let cue = null;
    for (const word of segment.words) {
      if (cue && (word.end - cue.start > 7 || cue.text.length + word.text.length > 83)) cue = null;
      if (!cue) cues.push((cue = { start: word.start, end: word.end, text: word.text }));
      else Object.assign(cue, { end: word.end, text: `${cue.text} ${word.text}` });
    }
  }
  const time = (s) => new Date(Math.round(s * 1000)).toISOString().slice(11, 23).replace(".", ",");
  return cues.map((cue, i) => `${i + 1}\n${time(cue.start)} --> ${time(Math.max(cue.end, cue.start + 0.1))}\n${cue.text}\n`).join("\n");
}

$("microphone").onclick = () => {
  if (!current) return void guarded(listen());
  current.stop();
  current.stream.finish();
  $("microphone").disabled = true;
};
$("file").onchange = () => {
  const [file] = $("file").files;
  if (file && !current) guarded(play(file)).finally(() => ($("file").value = ""));
};
document.ondragover = (event) => {
  event.preventDefault();
  document.body.classList.add("over");
};
document.ondragleave = () => document.body.classList.remove("over");
document.ondrop = (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file && !current) guarded(play(file));
};
$("txt").onclick = () => save("transcript.txt", segments.map((s) => s.text).join("\n") + "\n");
$("srt").onclick = () => save("transcript.srt", subtitles(segments));
$("clear").onclick = () => {
  segments = [];
  $("finals").replaceChildren();
  for (const id of ["txt", "srt", "clear"]) $(id).disabled = true;
};

async function models() {
  const token = $("token").value;
  const response = await fetch("v1/models", { headers: token ? { Authorization: `Bearer ${token}` } : {} });
  const names = response.ok ? (await response.json()).data.map((m) => m.id) : [];
  $("model").replaceChildren(...names.map((name) => new Option(name)));
  $("model").hidden = names.length < 2;
}
$("token").value = sessionStorage.getItem("token") ?? "";
$("token").onchange = models;
models();
