"use strict";
// The review page: plays a video with its masks, lists tracks, and sends edits. All text goes through textContent.

const $ = (id) => document.getElementById(id);
const AHEAD = 8; // frames that are fetched before they are shown
const state = { labels: null, video: null, frame: 0, chosen: null, partner: null, joining: false, playing: null };
const images = new Map(), masks = new Map(); // by frame, of the video that is shown

const colour = (id) => `hsl(${(id * 137.508) % 360} 85% 58%)`; // neighbours differ by the golden angle

async function ask(path, edit) {
  const how = edit && { method: "POST", body: JSON.stringify(edit), headers: { "X-Ookd-Review": "1" } };
  const answer = await fetch(path, how);
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error);
  return content;
}

function say(text, kind = "") {
  $("message").textContent = text;
  $("message").className = kind;
}

function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

// --- videos -------------------------------------------------------------------------------------------------

async function showLabels() {
  state.labels = await ask("/api/labels");
  const { name, videos, classes } = state.labels;
  $("set").textContent = name;
  $("progress").textContent = `${videos.filter((video) => video.done).length} of ${videos.length} videos done`;
  $("videos").replaceChildren(...videos.map((video) => {
    const item = element("li"), button = element("button", video.id === state.video?.id ? "chosen" : "");
    const doubtful = video.unsure ? `, ${video.unsure} doubtful` : "";
    button.append(element("span", "name", video.name), element("span", "tick", video.done ? "✓" : ""),
      element("small", "", `${video.tracks} tracks${doubtful}, ${video.frames} frames`));
    button.title = video.name;
    button.addEventListener("click", () => openVideo(video.id));
    item.append(button);
    return item;
  }));
  if (!$("class").options.length) $("class").replaceChildren(...classes.map((name) => new Option(name, name)));
}

async function openVideo(id) {
  pause();
  images.clear();
  state.chosen = state.partner = null;
  state.joining = false;
  state.frame = 0;
  take(await ask(`/api/videos/${id}`));
  state.chosen = state.video.tracks[0]?.id ?? null;
  $("frame").width = state.video.width;
  $("frame").height = state.video.height;
  $("seek").max = state.video.frames - 1;
  say("");
  await showLabels();
  goTo(firstFrame());
}

function take(video) {
  state.video = video;
  masks.clear();
  if (!video.tracks.some((track) => track.id === state.chosen)) state.chosen = video.tracks[0]?.id ?? null;
}

const chosen = () => state.video?.tracks.find((track) => track.id === state.chosen);
const firstFrame = () => chosen()?.seen[0]?.[0] ?? 0;

// --- frames -------------------------------------------------------------------------------------------------

function imageOf(frame) {
  if (!images.has(frame)) {
    const image = new Image();
    image.src = `/api/videos/${state.video.id}/images/${frame}`;
    images.set(frame, image.decode().then(() => image));
    if (images.size > 64) images.delete(images.keys().next().value);
  }
  return images.get(frame);
}

function masksOf(frame) {
  if (!masks.has(frame)) {
    masks.set(frame, ask(`/api/videos/${state.video.id}/masks/${frame}`));
    if (masks.size > 256) masks.delete(masks.keys().next().value);
  }
  return masks.get(frame);
}

// Run lengths of COCO: base-32 digits, lowest first; from the fourth on, differences to the length before the last.
function runsOf(text) {
  const runs = [];
  for (let at = 0; at < text.length; ) {
    let value = 0, shift = 0, more = true;
    while (more) {
      const digit = text.charCodeAt(at++) - 48;
      value |= (digit & 31) << shift;
      more = (digit & 32) !== 0;
      shift += 5;
      if (!more && digit & 16 && shift < 32) value |= -1 << shift;
    }
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
  }
  return runs;
}

function covers(text, place) {
  const runs = runsOf(text);
  for (let n = 0, end = 0; n < runs.length; n++) {
    end += runs[n];
    if (end > place) return n % 2 === 1;
  }
  return false;
}

function paint(pixels, width, height, text, rgb, alpha, edge) {
  const inside = new Uint8Array(width * height); // column by column
  const spans = [];
  runsOf(text).reduce((place, run, n) => {
    if (n % 2) {
      inside.fill(1, place, place + run);
      spans.push([place, place + run]);
    }
    return place + run;
  }, 0);
  for (const [first, end] of spans) {
    for (let at = first; at < end; at++) {
      const x = Math.floor(at / height), y = at % height;
      const border = x === 0 || y === 0 || x === width - 1 || y === height - 1 || !inside[at - 1] || !inside[at + 1]
        || !inside[at - height] || !inside[at + height];
      const share = border ? edge : alpha, to = 4 * (y * width + x);
      for (let c = 0; c < 3; c++) pixels[to + c] += share * (rgb[c] - pixels[to + c]);
    }
  }
}

const rgbCache = new Map();
function rgbOf(id) {
  if (!rgbCache.has(id)) {
    const probe = document.createElement("canvas").getContext("2d");
    probe.fillStyle = colour(id);
    probe.fillRect(0, 0, 1, 1);
    rgbCache.set(id, [...probe.getImageData(0, 0, 1, 1).data.slice(0, 3)]);
  }
  return rgbCache.get(id);
}

let drawn = { masks: {} }; // of the frame on the screen, to know what was clicked on

async function draw() {
  const frame = state.frame, video = state.video;
  const [image, found] = await Promise.all([imageOf(frame), masksOf(frame)]);
  if (frame !== state.frame || video !== state.video) return; // went on meanwhile
  drawn = found;
  const context = $("frame").getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0, video.width, video.height);
  if ($("overlay").checked) {
    const data = context.getImageData(0, 0, video.width, video.height);
    for (const track of video.tracks) {
      const text = found.masks[track.id];
      if (text === undefined) continue;
      const strong = track.id === state.chosen || track.id === state.partner;
      paint(data.data, video.width, video.height, text, rgbOf(track.id), strong ? 0.55 : 0.3, strong ? 1 : 0.75);
    }
    context.putImageData(data, 0, 0);
  }
  $("frame").dataset.shown = frame;
  for (let next = frame + 1; next < Math.min(frame + AHEAD, video.frames); next++) {
    imageOf(next).catch(() => {});
    masksOf(next).catch(() => {});
  }
}

function goTo(frame) {
  if (!state.video) return;
  state.frame = Math.max(0, Math.min(state.video.frames - 1, frame));
  $("seek").value = state.frame;
  $("clock").textContent = `${state.frame} / ${state.video.frames - 1}`;
  showTracks();
  return draw().catch((error) => say(error.message, "wrong"));
}

function pause() {
  clearTimeout(state.playing);
  state.playing = null;
  $("play").textContent = "Play";
}

function play() {
  if (state.playing !== null) return pause();
  $("play").textContent = "Pause";
  if (state.frame === state.video.frames - 1) state.frame = -1;
  const step = async () => {
    const began = performance.now();
    await goTo(state.frame + 1);
    if (state.playing === null) return;
    if (state.frame >= state.video.frames - 1) return pause();
    state.playing = setTimeout(step, Math.max(0, 1000 / Math.min(state.video.fps, 25) - (performance.now() - began)));
  };
  state.playing = setTimeout(step, 0);
}

// --- tracks -------------------------------------------------------------------------------------------------

function strip(track) {
  const canvas = element("canvas");
  canvas.width = 320;
  canvas.height = 14;
  const context = canvas.getContext("2d"), scale = canvas.width / state.video.frames;
  for (const [first, last] of track.seen) {
    for (let frame = first; frame <= last; frame++) {
      const score = track.scores?.[frame] ?? track.score;
      const height = Math.max(3, Math.min(1, score) * canvas.height);
      context.fillStyle = colour(track.id);
      context.fillRect(Math.floor(frame * scale), canvas.height - height, Math.ceil(scale) + 1, height);
    }
  }
  context.fillStyle = getComputedStyle(document.body).color;
  context.fillRect((state.frame + 0.5) * scale - 1, 0, 2, canvas.height);
  return canvas;
}

function showTracks() {
  const { tracks, done, edits } = state.video;
  const lines = tracks.map((track) => {
    const now = track.seen.some(([first, last]) => first <= state.frame && state.frame <= last);
    const kinds = [track.id === state.chosen && "chosen", track.id === state.partner && "partner", !now && "hidden-now"];
    const line = element("li", kinds.filter(Boolean).join(" "));
    const swatch = element("span", "swatch"), doubtful = track.doubtful ? " · doubtful" : "";
    swatch.style.background = colour(track.id);
    line.append(swatch, element("span", "title", `${track.class} ${track.id}`),
      element("span", track.doubtful ? "score doubtful" : "score", track.score.toFixed(2) + doubtful), strip(track));
    line.dataset.track = track.id;
    line.addEventListener("click", () => choose(track.id));
    return line;
  });
  $("tracks").replaceChildren(...lines);
  $("tracks").querySelector(".partner, .chosen")?.scrollIntoView({ block: "nearest" });
  $("done").textContent = done ? "Done ✓" : "Mark as done";
  $("class").value = chosen()?.class ?? "";
  for (const button of document.querySelectorAll("[data-do]"))
    button.disabled = button.dataset.do === "undo" ? !edits.length : !chosen();
  $("class").disabled = !chosen();
  $("edits").replaceChildren(...edits.map((edit) => element("li", "", told(edit))).reverse());
}

function told(edit) {
  const texts = { drop: "dropped", keep: "confirmed", rename: `is a ${edit.name}`, join: `joined with ${edit.other}`,
    cut: `cut at frame ${edit.frame}: ${edit.new} continues` };
  return edit.op === "done" ? (edit.done ? "video marked as done" : "video not done") : `track ${edit.track} ${texts[edit.op]}`;
}

function choose(id) {
  if (state.joining) state.partner = id === state.chosen ? null : id;
  else state.chosen = id;
  goTo(state.frame);
}

function neighbour(step) {
  const ids = state.video.tracks.map((track) => track.id).filter((id) => !state.joining || id !== state.chosen);
  if (!ids.length) return;
  const at = ids.indexOf(state.joining ? state.partner : state.chosen);
  choose(ids[(at + step + ids.length + (at < 0 && step < 0 ? 1 : 0)) % ids.length]);
}

// --- edits --------------------------------------------------------------------------------------------------

async function edit(what) {
  try {
    const place = state.video.tracks.findIndex((track) => track.id === state.chosen);
    const video = await ask("/api/edits", { video: state.video.id, ...what });
    take(video);
    if (what.op === "drop") state.chosen = video.tracks[Math.min(place, video.tracks.length - 1)]?.id ?? null;
    say(what.op === "undo" ? "undone" : told(video.edits.at(-1)));
    await showLabels();
    await goTo(state.frame);
  } catch (error) {
    say(error.message, "wrong");
  }
}

function leaveJoin() {
  state.joining = false;
  state.partner = null;
}

const actions = {
  drop: () => edit({ op: "drop", track: state.chosen }),
  keep: () => edit({ op: "keep", track: state.chosen }),
  cut: () => edit({ op: "cut", track: state.chosen, frame: state.frame }),
  undo: () => edit({ op: "undo" }),
  done: () => edit({ op: "done", done: !state.video.done }),
  rename: (name) => name !== chosen()?.class && edit({ op: "rename", track: state.chosen, name }),
  join: async () => {
    if (!state.joining) {
      state.joining = true;
      return say(`Choose the track of the same object as ${state.chosen}, then press J again. Esc cancels.`, "asking");
    }
    if (state.partner === null) return;
    const other = state.partner;
    leaveJoin();
    await edit({ op: "join", track: state.chosen, other });
  },
};

function act(name, ...more) {
  if (!state.video || (!chosen() && name !== "undo" && name !== "done")) return;
  if (name !== "join") leaveJoin();
  return actions[name](...more);
}

// --- keys and buttons ---------------------------------------------------------------------------------------

const keys = {
  " ": play, ArrowLeft: (e) => goTo(state.frame - (e.shiftKey ? 10 : 1)), ArrowRight: (e) => goTo(state.frame + (e.shiftKey ? 10 : 1)),
  ArrowUp: () => neighbour(-1), ArrowDown: () => neighbour(1), g: () => goTo(firstFrame()),
  d: () => act("drop"), k: () => act("keep"), c: () => act("cut"), j: () => act("join"), u: () => act("undo"), m: () => act("done"),
  r: () => $("class").focus(), o: () => $("overlay").click(), n: () => otherVideo(1), p: () => otherVideo(-1),
  "?": () => $("help").showModal(), Escape: () => { leaveJoin(); say(""); goTo(state.frame); },
};

function otherVideo(step) {
  const ids = state.labels.videos.map((video) => video.id);
  const next = ids[ids.indexOf(state.video.id) + step];
  if (next !== undefined) openVideo(next);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  if (event.target === $("class") && event.key !== "Escape") return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const number = /^[1-9]$/.test(key) && state.labels?.classes[Number(key) - 1];
  if (!keys[key] && !number) return;
  event.preventDefault();
  document.activeElement.blur();
  if (number) act("rename", number);
  else keys[key](event);
});

$("play").addEventListener("click", play);
$("back").addEventListener("click", () => goTo(state.frame - 1));
$("next").addEventListener("click", () => goTo(state.frame + 1));
$("seek").addEventListener("input", () => { pause(); goTo(Number($("seek").value)); });
$("overlay").addEventListener("change", draw);
$("done").addEventListener("click", () => act("done"));
$("help-button").addEventListener("click", () => $("help").showModal());
$("class").addEventListener("change", () => { act("rename", $("class").value); $("class").blur(); });
for (const button of document.querySelectorAll("[data-do]")) button.addEventListener("click", () => act(button.dataset.do));
$("frame").addEventListener("click", (event) => {
  const box = $("frame").getBoundingClientRect(), { width, height } = drawn;
  const scale = Math.min(box.width / width, box.height / height); // the picture is centred in the element
  const x = Math.floor((event.clientX - box.left - (box.width - width * scale) / 2) / scale);
  const y = Math.floor((event.clientY - box.top - (box.height - height * scale) / 2) / scale);
  if (x < 0 || y < 0 || x >= width || y >= height) return;
  const hit = state.video.tracks.find((track) => covers(drawn.masks[track.id] ?? "", x * height + y));
  if (hit) choose(hit.id);
});

showLabels().then(() => {
  const first = state.labels.videos.find((video) => !video.done) ?? state.labels.videos[0];
  return first && openVideo(first.id);
}).catch((error) => say(error.message, "wrong"));
