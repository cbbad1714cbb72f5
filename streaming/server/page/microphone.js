// The microphone, as pieces of about 40 ms of mono sound.

export class SoundError extends Error {} // its message is for people

const REASONS = {
  NotAllowedError: "The browser may not use the microphone. Allow it in the address bar or the system's settings, then press the button again.",
  NotFoundError: "There is no microphone. Plug one in, or open a recording.",
  NotReadableError: "Another program uses the microphone. Close it, then press the button again.",
  OverconstrainedError: "The chosen microphone is gone. Choose another in the settings.",
  AbortError: "The microphone did not start. Press the button again.",
};

export async function openMicrophone({ device, cleanup }, hear, gone) {
  if (!navigator.mediaDevices) throw new SoundError("Browsers give the microphone to https pages and to localhost only.");
  let context = new AudioContext(); // before anything is awaited: some browsers want it in the click
  let media = null;
  try {
    media = await navigator.mediaDevices.getUserMedia({
      audio: {
        deviceId: device ? { exact: device } : undefined,
        channelCount: 1,
        echoCancellation: cleanup,
        noiseSuppression: cleanup,
        autoGainControl: cleanup,
      },
    });
    const [track] = media.getAudioTracks();
    const { sampleRate } = track.getSettings();
    if (sampleRate && sampleRate !== context.sampleRate) { // the server resamples better than a browser does
      await context.close();
      context = new AudioContext({ sampleRate });
    }
    await context.audioWorklet.addModule(new URL("./worklet.js", import.meta.url));
    await context.resume();
    const node = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
    node.port.onmessage = ({ data }) => hear(data);
    track.onended = gone; // unplugged, or taken away
    const screen = await navigator.wakeLock?.request("screen").catch(() => null); // phones sleep
    context.createMediaStreamSource(media).connect(node);
    return {
      rate: context.sampleRate,
      stop() {
        if (context.state === "closed") return;
        node.port.onmessage = track.onended = null;
        track.stop();
        screen?.release();
        context.close();
      },
    };
  } catch (error) {
    media?.getTracks().forEach((track) => track.stop());
    context.close();
    throw new SoundError(REASONS[error.name] ?? error.message);
  }
}

// Microphones by name; names are told once the microphone was allowed.
export async function microphones() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return devices.filter(({ kind, deviceId, label }) => kind === "audioinput" && deviceId && label && deviceId !== "default");
}
