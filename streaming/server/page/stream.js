// One stream of protocol version 1. It outlives its connections: audio that the server has not acknowledged is kept and sent again.

const PASSING = new Set(["busy", "full", "draining", "limit", "resumed"]);
const LONGEST_PAUSE = 2000; // ms between attempts
const PATIENCE = 30000; // ms of attempts before giving up
const BUFFERED = 1 << 18; // bytes on their way, beyond which a file waits

export class Stream {
  // `tell` is called with each message of the server, and with {type: "lost"} and {type: "error", code, message}.
  constructor(start, token, tell) {
    this.start = start;
    this.token = token;
    this.tell = tell;
    this.samples = 0;
    this.seq = 0;
    this.kept = []; // [first sample, samples]
    this.finishing = this.over = this.open = false;
    this.pause = 100;
    this.connect();
  }

  connect() {
    const url = new URL("v1/stream", location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url, ["riverrun.v1", ...(this.token ? [`bearer.${this.token}`] : [])]);
    this.socket = socket;
    this.refused = null;
    socket.onopen = () => {
      const resume = this.resumeToken ? { token: this.resumeToken, seq: this.seq } : undefined;
      socket.send(JSON.stringify({ type: "start", ...this.start, resume }));
    };
    socket.onmessage = ({ data }) => this.hear(JSON.parse(data));
    socket.onclose = () => this.lost();
  }

  send(samples) { // Float32Array, mono
    const audio = Int16Array.from(samples, (x) => Math.max(-32768, Math.min(32767, Math.round(x * 32768))));
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

  hear(message) {
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
    if (message.type === "finished") {
      this.over = true;
      this.socket.close(1000);
    }
    this.tell(message);
  }

  acknowledge(milliseconds) {
    const at = Math.round((milliseconds * this.start.sample_rate) / 1000);
    this.kept = this.kept
      .filter(([first, audio]) => first + audio.length > at)
      .map(([first, audio]) => (first < at ? [at, audio.subarray(at - first)] : [first, audio]));
  }

  lost() {
    this.open = false;
    if (this.over) return;
    this.since ??= performance.now();
    const waited = performance.now() - this.since;
    const fatal = this.refused && !PASSING.has(this.refused.code);
    if (fatal || waited > PATIENCE || (!this.resumeToken && !this.refused)) {
      this.over = true;
      const message = this.token ? "no connection; is the server there, and the token right?" : "no connection; does the server want a token?";
      this.tell(this.refused ?? { type: "error", code: "connection", message });
      return;
    }
    this.tell({ type: "lost" });
    setTimeout(() => this.connect(), this.pause * (0.5 + Math.random()));
    this.pause = Math.min(2 * this.pause, LONGEST_PAUSE);
  }
}
