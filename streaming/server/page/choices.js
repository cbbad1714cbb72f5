// What may be chosen: models and what they offer, as the server tells, and the microphone. Choices are remembered, the token only for
// as long as the tab is open.

import { microphones } from "./microphone.js";

const $ = (id) => document.getElementById(id);
const NAMES = { model: "model", language: "language", translate: "translate", policy: "policy", latency: "delay-choice", device: "device" };

export class Choices {
  // `changed` is called when there is something else to show, `answered` with the HTTP status when the server was asked for models.
  constructor(changed, answered) {
    this.models = []; // {id, capabilities}
    this.changed = changed;
    this.answered = answered;
    this.saved = JSON.parse(localStorage.getItem("riverrun") ?? "{}");
    $("cleanup").checked = Boolean(this.saved.cleanup);
    $("token").value = sessionStorage.getItem("token") ?? "";
    $("token").addEventListener("change", () => {
      sessionStorage.setItem("token", $("token").value);
      this.load();
    });
    $("choices").addEventListener("change", ({ target }) => {
      if (target === $("token")) return;
      for (const [name, id] of Object.entries(NAMES)) if (id === target.id) this.saved[name] = target.value;
      this.saved.cleanup = $("cleanup").checked;
      localStorage.setItem("riverrun", JSON.stringify(this.saved));
      this.show();
    });
    $("choices").addEventListener("submit", (event) => event.preventDefault());
    $("choices").addEventListener("toggle", ({ newState }) => newState === "open" && this.devices());
    this.devices();
  }

  get token() {
    return $("token").value;
  }

  get cleanup() {
    return $("cleanup").checked;
  }

  get device() {
    return $("device").value;
  }

  // Fields of the start message.
  get start() {
    const value = (id) => ($(id).value && !$(id).closest("label").hidden ? $(id).value : undefined);
    return {
      model: $("model").value || undefined,
      language: value("language"),
      translate_to: value("translate"),
      policy: value("policy"),
      latency_ms: value("delay-choice") && Number(value("delay-choice")),
    };
  }

  // Ask the server for its models; the HTTP status, 0 for no answer.
  async load() {
    const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    const response = await fetch("v1/models", { headers }).catch(() => null);
    if (response?.ok) this.models = (await response.json()).data;
    this.show();
    const status = response?.status ?? 0;
    this.answered(status);
    return status;
  }

  // What a stream has told of its model.
  learn(capabilities) {
    const model = this.models.find(({ id }) => id === capabilities.model);
    if (model && !model.capabilities) {
      model.capabilities = capabilities;
      this.show();
    }
  }

  show() {
    fill("model", this.models.map(({ id }) => [id, id]), this.saved.model, 2);
    const model = this.models.find(({ id }) => id === $("model").value)?.capabilities ?? {};
    const { languages = [], translation = [], policies = [], policy, latencies_ms = [], latency_ms, transcribes = true } = model;
    const untranslated = transcribes ? [["", "Do not translate"]] : [];
    fill("language", languages.map((code) => [code, language(code)]), this.saved.language, 2);
    fill("translate", [...untranslated, ...translation.map((code) => [code, language(code)])], this.saved.translate, 2);
    const to = $("translate").value;
    const suited = ["", policy ? `${policy}, as suits the model` : "as suits the model"];
    fill("policy", to ? [suited, ...policies.map((each) => [each, each])] : [], this.saved.policy, 2);
    fill("delay-choice", latencies_ms.map((ms) => [String(ms), `${ms} ms`]), this.saved.latency, 2, String(latency_ms));
    this.written = to || $("language").value || languages[0] || "";
    const ms = $("delay-choice").value || latency_ms;
    const heard = languages.length > 1 && language($("language").value);
    $("chosen").textContent = [$("model").value, to ? `to ${language(to)}` : heard, ms && `${ms} ms`].filter(Boolean).join(" · ") || "Settings";
    this.changed();
  }

  async devices() {
    const found = await microphones();
    fill("device", [["", "Default"], ...found.map(({ deviceId, label }) => [deviceId, label])], this.saved.device, 0);
  }
}

// Options of a select: `wanted` is chosen if it is there, else `usual`, else the first. Where there is nothing to choose, it is hidden.
function fill(id, options, wanted, least, usual) {
  const select = $(id);
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  select.value = [wanted, usual, options[0]?.[0]].find((value) => options.some(([each]) => each === value)) ?? "";
  select.closest("label").hidden = options.length < least;
}

const named = new Intl.DisplayNames(["en"], { type: "language" });

function language(code) {
  try {
    return named.of(code);
  } catch {
    return code; // not a code of BCP 47
  }
}
