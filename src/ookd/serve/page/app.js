// The page: settings, the video being watched, and the followed object.

import { Camera } from "./camera.js";
import { css } from "./masks.js";
import { Player } from "./player.js";
import { clock, TrackList } from "./tracks.js";
import { Upload } from "./upload.js";

const $ = (id) => document.getElementById(id);
const RECENT = 60; // frames that latency and speed are measured over
const LIST_PAUSE = 600; // milliseconds between two looks at the tracks

let models = [], source = null, chosenClasses = null, trips = [], arrivals = [], present = new Set(), unmodelled = "";

const player = new Player($("view"), onShow);
const list = new TrackList($("tracks"), $("count"), follow);
const wanted = (one) => one.score >= Number($("score").value) && (!chosenClasses || chosenClasses.has(one.class));
player.wanted = wanted;

// --- settings ---

async function begin() {
  models = await (await fetch("/models")).json();
  for (const model of models) $("model").add(new Option(model.name, model.name));
  $("model").onchange = () => {
    useModel();
    if (source instanceof Upload && source.file) openFile(source.file);
    else if (source instanceof Camera && source.active) openCamera();
  };
  useModel();
}

function useModel() {
  const model = models.find((one) => one.name === $("model").value);
  $("score").value = model.score;
  chosenClasses = null;
  $("class-list").replaceChildren(...model.classes.map(classBox));
  $("about").textContent = model.licence ? `${model.name}: ${model.licence}` : "";
  unmodelled = model.trained_on ? `${model.name} was trained on ${model.trained_on} only and mistakes real things for its classes.` : "";
  showFilter();
}

function classBox(name) {
  const label = document.createElement("label"), box = document.createElement("input"), text = document.createElement("span");
  Object.assign(box, { type: "checkbox", checked: true, value: name });
  text.textContent = name;
  label.append(box, text);
  box.onchange = () => {
    const boxes = [...$("class-list").querySelectorAll("input")], on = boxes.filter((one) => one.checked);
    chosenClasses = on.length === boxes.length ? null : new Set(on.map((one) => one.value));
    showFilter();
  };
  return label;
}

function showFilter() {
  const names = chosenClasses ? [...chosenClasses] : [];
  $("classes").firstElementChild.textContent = !chosenClasses ? "All classes" : names.join(", ") || "No classes";
  $("least").textContent = `${Math.round($("score").value * 100)}%`;
  player.redraw();
  list.update(player.id, list.tracks, wanted);
  list.mark(present, player.followed);
  for (const link of $("downloads").querySelectorAll("a")) {
    const asked = new URLSearchParams({ score: $("score").value });
    if (chosenClasses) asked.set("classes", names.join(","));
    if (player.id) link.href = `/videos/${player.id}/download/${link.dataset.kind}?${asked}`;
    link.download = "";
  }
}

// --- the video ---

function close() {
  source?.stop();
  source = null;
  player.clear();
  list.clear();
  trips = [];
  arrivals = [];
  follow(null);
  $("camera").textContent = "Camera";
  $("camera").classList.remove("stop");
}

function open(id, width, height) {
  player.open(id, width, height);
  $("welcome").hidden = true;
  $("transport").hidden = $("hud").hidden = false;
  showFilter();
}

async function openFile(file) {
  close();
  const upload = (source = new Upload(
    (video) => {
      open(video.id, video.width, video.height);
      say(video.state === "waiting" ? "Waiting for other videos …" : unmodelled);
    },
    (frames, video) => {
      for (const frame of frames) player.add(frame);
      count(frames.length);
      if (frames.length && $("message").textContent.startsWith("Waiting")) say(unmodelled);
      player.length = video.length;
    },
    (video) => {
      player.running = player.edge = false;
      player.playing = player.at < player.stop - 1;
      say(video.reason, video.state === "failed");
      if (!player.stop && !video.reason) say("The video has no frames.", true);
      listTracks();
    },
  ));
  upload.file = file;
  $("welcome").hidden = true;
  try {
    await ready;
    await upload.start(file, $("model").value, (part) => say(part < 1 ? `Uploading ${Math.round(part * 100)}%` : "Opening …"));
  } catch (error) {
    if (source === upload) fail(error.message);
  }
}

async function openCamera() {
  close();
  const camera = (source = new Camera(
    (answer, picture, trip) => {
      player.add(answer, picture);
      trips.push(trip);
      count(1);
    },
    (what, detail) => {
      if (source !== camera) return;
      if (what === "open" && !detail.resumed) {
        open(detail.stream, detail.width, detail.height);
        say(unmodelled);
      } else if (what === "open") say("");
      else if (what === "again") say("Connection lost; reconnecting …");
      else {
        player.running = player.edge = false;
        player.playing = false;
        $("camera").textContent = "Camera";
        $("camera").classList.remove("stop");
        say(detail, what === "refused");
        listTracks();
      }
    },
  ));
  try {
    $("camera").textContent = "Stop";
    $("camera").classList.add("stop");
    await ready;
    await camera.start($("model").value);
  } catch (error) {
    if (source === camera) fail(error.name === "NotAllowedError" ? "Camera access was denied." : `No camera: ${error.message}`);
  }
}

function fail(text) {
  close();
  $("welcome").hidden = false;
  $("transport").hidden = $("hud").hidden = true;
  say(text, true);
}

function say(text, bad = false) {
  $("message").textContent = text;
  $("message").hidden = !text;
  $("message").classList.toggle("bad", bad);
  clearTimeout(say.timer);
  if (text && text === unmodelled) say.timer = setTimeout(() => say(""), 6000);
}

function count(frames) {
  const now = performance.now();
  for (let i = 0; i < frames; i++) arrivals.push(now);
  arrivals.splice(0, arrivals.length - RECENT);
  trips.splice(0, trips.length - RECENT);
}

function showSpeed() {
  const fps = arrivals.length > 1 ? ((arrivals.length - 1) / (arrivals.at(-1) - arrivals[0])) * 1000 : 0;
  if (!player.running || !Number.isFinite(fps)) {
    $("hud").textContent = `frame ${player.at + 1} of ${player.stop}`;
    return;
  }
  const sorted = [...trips].sort((a, b) => a - b), part = (share) => Math.round(sorted[Math.floor(share * (sorted.length - 1))]);
  const delay = sorted.length ? `${part(0.5)} ms, p95 ${part(0.95)} ms   ` : "";
  $("hud").textContent = `${delay}${fps.toFixed(1)} frames/s`;
}

// --- the followed object ---

function follow(id) {
  player.followed = id === player.followed ? null : id;
  $("free").hidden = player.followed === null;
  const track = list.tracks.find((one) => one.id === player.followed);
  if (track && !present.has(track.id)) {
    player.playing = false;
    player.go(track.first_frame);
  }
  if (player.followed !== null) list.reveal(player.followed);
  list.mark(present, player.followed);
  player.redraw();
}

function onShow(answer) {
  present = new Set(answer.objects.filter(wanted).map((object) => object.id));
  list.mark(present, player.followed);
}

async function listTracks() {
  const id = player.id;
  if (!id || !player.stop) return;
  const answer = await fetch(`/videos/${id}/tracks`).catch(() => null); // the next look comes soon
  if (!answer?.ok || id !== player.id) return;
  list.update(id, await answer.json(), wanted);
  list.mark(present, player.followed);
}

function showTransport() {
  $("play").textContent = player.playing ? "❚❚" : "▶";
  $("play").setAttribute("aria-label", player.playing ? "Pause" : "Play");
  const scrub = $("scrub"), last = Math.max(player.stop - 1, 0);
  scrub.min = player.first;
  scrub.max = player.running && player.length ? Math.max(last, player.length - 1) : last;
  if (document.activeElement !== scrub || player.playing) scrub.value = player.at;
  $("time").textContent = clock(player.frames.get(player.at)?.seconds ?? 0);
  $("total").textContent = clock(player.frames.get(last)?.seconds ?? 0);
  $("edge").hidden = !player.running;
  $("edge").classList.toggle("on", player.edge && player.playing);
  strip(Number(scrub.min), Number(scrub.max));
}

// When the followed object, or any object, was visible.
function strip(first, last) {
  const canvas = $("strip"), context = canvas.getContext("2d"), wide = (canvas.width = canvas.clientWidth || 1);
  const x = (frame) => ((frame - first) / Math.max(last - first, 1)) * wide;
  context.fillStyle = css(0, 0.28);
  context.fillRect(0, 0, x(player.stop - 1), 8);
  const track = list.tracks.find((one) => one.id === player.followed);
  if (!track) return;
  context.fillStyle = css(track.id);
  context.fillRect(x(track.first_frame), 0, Math.max(2, x(track.last_frame) - x(track.first_frame)), 8);
}

// --- input ---

$("score").oninput = showFilter;
$("file").onchange = () => {
  if ($("file").files[0]) openFile($("file").files[0]);
  $("file").value = "";
};
$("camera").onclick = () => {
  if (source instanceof Camera && source.active) source.stop();
  else openCamera();
};
$("camera-link").onclick = openCamera;
$("play").onclick = () => player.toggle();
$("edge").onclick = () => player.toEdge();
$("free").onclick = () => follow(null);
$("scrub").oninput = () => {
  player.playing = false;
  player.go(Number($("scrub").value));
};
$("view").onclick = (event) => {
  const object = player.objectAt(event.clientX, event.clientY);
  if (object || player.followed !== null) follow(object?.id ?? null);
};
addEventListener("keydown", (event) => {
  if (!player.stop || ["INPUT", "SELECT", "BUTTON", "SUMMARY"].includes(event.target.tagName)) return;
  if (event.key === " ") player.toggle();
  else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
    player.playing = false;
    player.go(player.at + (event.key === "ArrowLeft" ? -1 : 1));
  } else return;
  event.preventDefault();
});
addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details[open]")) if (!menu.contains(event.target)) menu.open = false;
});
let inside = 0; // how many elements the dragged file is over
addEventListener("dragenter", (event) => {
  event.preventDefault();
  $("dropping").hidden = ++inside === 0;
});
addEventListener("dragleave", () => ($("dropping").hidden = --inside === 0));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  inside = 0;
  $("dropping").hidden = true;
  if (event.dataTransfer.files[0]) openFile(event.dataTransfer.files[0]);
});
addEventListener("resize", () => player.redraw());

setInterval(showSpeed, 250);
setInterval(showTransport, 100);
setInterval(() => player.running && listTracks(), LIST_PAUSE);
const ready = begin();
ready.catch(() => say("The server does not answer.", true));
