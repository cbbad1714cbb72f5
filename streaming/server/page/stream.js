// One stream of protocol version 1. It outlives its connections: audio that the server has not acknowledged is kept and sent again.

const PASSING = new Set(["busy", "full", "draining", "limit", "resumed"]);
const LONGEST_PAUSE = 2000; // ms between attempts
const PATIENCE = 60000; // ms of attempts before giving up
const STALL = 20000; // ms of silence, with audio unanswered, after which a connection counts as broken
const BUFFERED = 1 << 18; // bytes on their way, beyond which a file waits

export class Stream {
  // `start`: fields of the start message. `tell` is called with each message of the server, and with {type: "lost"},
  // {type: "waiting", message} while the server takes no stream, and {type: "error", code, message} at a bad end.
  constructor(start, token, tell) {
    this.start = start;
    this.token = token;
    this.tell = tell;
    this.samples = 0;
    this.acknowledged = 0; // samples
    this.seq = 0;
    this.kept = []; // [first sample, samples]
    this.finishing = this.over = this.open = false;
    this.pause = 100;
    this.online = () => this.retry?.();
    addEventListener("online", this.online);
    this.watch = setInterval(() => this.check(), 2000);
    this.connect();
  }

  get rate() {
    return this.start.sample_rate;
  }

  connect() {
    this.retry = null;
    const url = new URL("v1/stream", location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url, ["riverrun.v1", ...(this.token ? [`bearer.${this.token}`] : [])]);
    this.socket = socket;
    this.refused = null;
    this.reached = false;
    this.heard = performance.now();
    socket.onopen = () => {
      this.reached = true;
      const resume = this.resumeToken ? { token: this.resumeToken, seq: this.seq } : undefined;
      socket.send(JSON.stringify({ type: "start", ...this.start, resume }));
    };
    socket.onmessage = ({ data }) => socket === this.socket && this.hear(JSON.parse(data));
    socket.onclose = () => socket === this.socket && this.lost();
  }

  send(samples) { // Float32Array, mono
    const audio = this.start.encoding === "pcm_f32le" ? samples.slice() : Int16Array.from(samples, integer);
    this.kept.push([this.samples, audio]);
    this.samples += audio.length;
    if (this.open) this.socket.send(audio);
  }

  async room() { // resolves when more may be sent
    while (!this.over && (!this.open || this.socket.bufferedAmount > BUFFERED)) await new Promise((done) => setTimeout(done, 20));
  }

  finish() {
    this.finishing = true;
    if (this.open) this.socket.send('{"type":"finish"}');
  }

  abandon() { // end without waiting for what the server has still to say
    this.end({ type: "finished" });
  }

  hear(message) {
    this.heard = performance.now();
    if (message.type === "ready") {
      this.resumeToken = message.resume_token;
      this.acknowledge(message.audio_ms);
      this.open = true;
      this.pause = 100;
      this.since = null;
      for (const [, audio] of this.kept) this.socket.send(audio);
      if (this.finishing) this.finish();
    } else if (message.type === "ack") {
      this.acknowledge(message.audio_ms);
    } else if (message.type === "error") {
      this.refused = message;
      return;
    } else if (message.seq !== undefined) {
      if (message.seq <= this.seq) return;
      this.seq = message.seq;
    }
    if (message.type === "finished") this.end(message);
    else this.tell(message);
  }

  acknowledge(milliseconds) {
    const at = Math.round((milliseconds * this.rate) / 1000);
    this.acknowledged = Math.max(this.acknowledged, at);
    this.kept = this.kept
      .filter(([first, audio]) => first + audio.length > at)
      .map(([first, audio]) => (first < at ? [at, audio.subarray(at - first)] : [first, audio]));
  }

  check() {
    if (this.open && (this.kept.length || this.finishing) && performance.now() - this.heard > STALL) {
      this.socket.onclose = null; // half-open: a close would wait for an answer
      this.socket.close();
      this.lost();
    }
  }

  lost() {
    this.open = false;
    if (this.over) return;
    this.since ??= performance.now();
    const waited = performance.now() - this.since;
    const { refused } = this;
    const anew = refused?.code === "resume-unknown" && !this.acknowledged; // all the audio is here: nothing is lost
    if (anew) this.resumeToken = null;
    const fatal = refused && !PASSING.has(refused.code) && !anew;
    if (fatal || waited > PATIENCE || (!this.reached && !this.samples && !this.resumeToken)) {
      this.end(refused ? { ...refused, type: "error" } : { type: "error", code: "connection", message: "There is no connection to the server." });
      return;
    }
    this.tell(refused ? { type: "waiting", message: refused.message } : { type: "lost" });
    this.retry = () => this.retry && this.connect();
    setTimeout(this.retry, this.pause * (0.5 + Math.random()));
    this.pause = Math.min(2 * this.pause, LONGEST_PAUSE);
  }

  end(message) {
    if (this.over) return;
    this.over = true;
    this.open = false;
    this.retry = null;
    clearInterval(this.watch);
    removeEventListener("online", this.online);
    this.socket.close(1000);
    this.tell(message);
  }
}

function integer(x) {
  return Math.max(-32768, Math.min(32767, Math.round(x * 32768)));
}
