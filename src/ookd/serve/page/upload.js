// A video file: uploaded unchanged, then its results are fetched as they come.

const PAUSE = 120; // milliseconds between two questions
const MANY = 200; // frames of an answer

export class Upload {
  constructor(onOpen, onFrames, onEnd) {
    Object.assign(this, { onOpen, onFrames, onEnd });
    this.active = true;
  }

  // Send a file; `onPart` gets the share that has arrived, from 0 to 1.
  async start(file, model, onPart) {
    const video = await new Promise((done, fail) => {
      const request = (this.request = new XMLHttpRequest());
      request.open("POST", `/videos?${new URLSearchParams({ name: file.name, model })}`);
      request.setRequestHeader("Content-Type", "application/octet-stream");
      request.upload.onprogress = (event) => onPart(event.loaded / event.total);
      request.onerror = () => fail(new Error("the upload broke off"));
      request.onabort = () => fail(new Error("the upload was stopped"));
      request.onload = () => {
        const answer = read(request.responseText);
        if (request.status === 201) done(answer);
        else fail(new Error(typeof answer.detail === "string" ? answer.detail : "the server refused the video"));
      };
      request.send(file);
    });
    this.id = video.id;
    this.onOpen(video);
    await this.follow();
  }

  async follow() {
    for (let next = 0; this.active;) {
      const answer = await fetch(`/videos/${this.id}/frames?start=${next}&count=${MANY}`).catch(() => null);
      if (!answer) {
        await new Promise((later) => setTimeout(later, 10 * PAUSE)); // the network is away
        continue;
      }
      if (!answer.ok) throw new Error("the server no longer has this video");
      const { video, frames } = await answer.json();
      if (!this.active) return;
      if (frames.length) next = frames.at(-1).frame + 1;
      this.onFrames(frames, video);
      if (["done", "failed"].includes(video.state) && next >= video.frames) return this.onEnd(video);
      if (frames.length < MANY) await new Promise((later) => setTimeout(later, PAUSE));
    }
  }

  stop() {
    this.active = false;
    this.request?.abort();
  }
}

function read(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}
