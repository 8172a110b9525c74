// The list of objects next to the image.

import { css } from "./masks.js";

export const clock = (seconds) => {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
};

export class TrackList {
  constructor(list, count, onChoose) {
    Object.assign(this, { list, count, onChoose });
    this.clear();
  }

  clear() {
    this.rows = new Map(); // id -> its parts
    this.tracks = [];
    this.list.replaceChildren();
    this.count.textContent = "No objects yet";
  }

  // The server's list, filtered.
  update(video, tracks, wanted) {
    this.tracks = tracks;
    const shown = tracks.filter(wanted);
    for (const [id, row] of this.rows) {
      if (!shown.some((track) => track.id === id)) {
        row.item.remove();
        this.rows.delete(id);
      }
    }
    for (const track of shown) {
      const row = this.rows.get(track.id) ?? this.begin(track.id);
      row.name.textContent = `${track.class} #${track.id}`;
      row.score.textContent = `${Math.round(track.score * 100)}%`;
      const span = `${clock(track.first_seconds)} to ${clock(track.last_seconds)}`;
      row.when.textContent = `${span}, in ${track.frames} frame${track.frames > 1 ? "s" : ""}`;
      const look = Math.floor(Math.log2(track.frames + 1)); // clearer sights come in time
      if (row.look !== look) {
        row.look = look;
        row.picture.src = `/videos/${video}/tracks/${track.id}/thumbnail?look=${look}`;
      }
      row.item.dataset.label = track.class;
    }
    this.count.textContent = shown.length ? `${shown.length} object${shown.length > 1 ? "s" : ""}` : "No objects yet";
  }

  // Mark the objects in the shown frame, and the followed one.
  mark(present, followed) {
    for (const [id, row] of this.rows) {
      row.item.classList.toggle("gone", !present.has(id));
      row.item.classList.toggle("chosen", id === followed);
      row.button.setAttribute("aria-pressed", String(id === followed));
    }
  }

  reveal(id) {
    this.rows.get(id)?.item.scrollIntoView({ block: "nearest" });
  }

  begin(id) {
    const make = (name) => document.createElement(name);
    const item = make("li"), button = make("button"), picture = make("img"), title = make("b"), dot = make("i");
    const name = make("span"), score = make("em"), when = make("small");
    button.type = "button";
    picture.alt = "";
    dot.style.background = css(id);
    title.append(dot, name);
    button.append(picture, title, score, when);
    button.onclick = () => this.onChoose(id);
    item.append(button);
    this.list.append(item);
    const row = { item, button, picture, name, score, when, look: -1 };
    this.rows.set(id, row);
    return row;
  }
}
