// What was said: finished segments as a list, the running one below, of which what may still change is dimmed.

import { clock } from "./timeline.js";

export class Captions {
  // `seek` is called with seconds when a time is pressed.
  constructor({ box, finals, stable, tail, latest }, seek) {
    Object.assign(this, { box, finals, stable, tail, latest, seek });
    this.segments = []; // {text, start, end, words}
    this.following = true;
    box.addEventListener("scroll", () => {
      this.following = box.scrollTop + box.clientHeight >= box.scrollHeight - 24;
      latest.hidden = this.following;
    });
    new ResizeObserver(() => this.follow()).observe(box);
    latest.addEventListener("click", () => {
      this.following = true;
      this.follow();
    });
  }

  running({ text, stable = 0 }) {
    this.stable.textContent = text.slice(0, stable);
    this.tail.textContent = text.slice(stable);
    this.follow();
  }

  finished(segment) {
    this.running({ text: "" });
    if (!segment.text) return;
    this.segments.push(segment);
    const item = document.createElement("li"), time = document.createElement("button"), text = document.createElement("span");
    time.type = "button";
    time.textContent = clock(segment.start);
    time.ariaLabel = `At ${clock(segment.start)}, show the sound`;
    time.addEventListener("click", () => this.seek(segment.start));
    text.textContent = segment.text;
    item.append(time, text);
    this.finals.append(item);
    this.follow();
  }

  clear() {
    this.segments = [];
    this.finals.replaceChildren();
    this.running({ text: "" });
  }

  get text() {
    return this.segments.map(({ text }) => `${text}\n`).join("");
  }

  follow() {
    if (this.following) this.box.scrollTop = this.box.scrollHeight;
  }
}
