// The camera: one frame in flight. The next is taken when the answer arrives, so nothing queues.

const QUALITY = 0.8;
const PATIENCE = 60000; // milliseconds in which a broken stream can go on

export class Camera {
  constructor(onAnswer, onState) {
    this.onAnswer = onAnswer; // (answer, picture, round trip in milliseconds)
    this.onState = onState; // (what: "open" | "again" | "over" | "refused", detail)
    this.id = null;
    this.active = false;
    this.tries = 0;
  }

  async start(model) {
    if (!navigator.mediaDevices) throw new Error("the browser gives cameras to https:// and localhost only");
    const wish = { width: { ideal: 640 }, height: { ideal: 480 }, facingMode: "environment" };
    this.media = await navigator.mediaDevices.getUserMedia({ video: wish });
    this.video = document.createElement("video");
    Object.assign(this.video, { srcObject: this.media, muted: true, playsInline: true });
    await this.video.play();
    this.grab = document.createElement("canvas");
    [this.grab.width, this.grab.height] = [this.video.videoWidth, this.video.videoHeight];
    this.model = model;
    this.active = true;
    this.connect();
  }

  stop() {
    this.active = false;
    for (const track of this.media?.getTracks() ?? []) track.stop();
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send("end");
    else this.socket?.close();
  }

  connect() {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/stream`);
    this.socket = socket;
    let greeted = false;
    socket.onopen = () => socket.send(JSON.stringify({ model: this.model, resume: this.id }));
    socket.onmessage = (event) => {
      const answer = JSON.parse(event.data);
      if (!greeted) {
        greeted = true;
        this.tries = 0;
        this.id = answer.stream;
        this.onState("open", { ...answer, width: this.grab.width, height: this.grab.height });
      } else if (!answer.error) {
        this.onAnswer(answer, this.sent, performance.now() - this.sentAt);
      }
      if (this.active) this.next(socket);
    };
    socket.onclose = (event) => {
      if (this.socket !== socket) return;
      if (!this.active) return this.onState("over", "");
      this.lostAt = greeted || !this.lostAt ? performance.now() : this.lostAt;
      const final = [1008, 1013, 4001].includes(event.code) && !greeted;
      if (final || event.code === 4001 || performance.now() - this.lostAt > PATIENCE) {
        this.active = false;
        for (const track of this.media.getTracks()) track.stop();
        return this.onState("refused", event.reason || "the server cannot be reached");
      }
      this.onState("again", "");
      setTimeout(() => this.active && this.connect(), Math.min(4000, 300 * 2 ** this.tries++));
    };
  }

  // Take the newest image and send it.
  async next(socket) {
    await new Promise((ready) => {
      if (this.video.requestVideoFrameCallback) this.video.requestVideoFrameCallback(ready);
      else requestAnimationFrame(ready);
    });
    this.grab.getContext("2d").drawImage(this.video, 0, 0, this.grab.width, this.grab.height);
    const picture = await new Promise((done) => this.grab.toBlob(done, "image/jpeg", QUALITY));
    if (socket.readyState !== WebSocket.OPEN || !picture) return;
    this.sent = picture;
    this.sentAt = performance.now();
    socket.send(picture);
  }
}
