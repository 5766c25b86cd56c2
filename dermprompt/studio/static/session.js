// What the studio offers, what is chosen of it, and what the page says; all that is chosen is remembered.

import * as api from "./api.js";

export const $ = (id) => document.getElementById(id);

export const session = { about: null, changed: () => {} };
export const state = {
  mask: null, generators: ["box-controlnet"], mode: "labels", diagnosis: null, attributes: [], text: "", seed: 0, fresh: false,
  sampler: "dpm", num_steps: 10, guidance_scale: 2, conditioning_scale: 1, tool: "brush", brush: 16, colour: "#19b3a6", opacity: 55,
  outlines: true, theme: "auto", history: [], set: [], shown: [],
};

let timer;
export function remember() {
  clearTimeout(timer);
  timer = setTimeout(() => api.remember(state).catch(fail), 400);
}

addEventListener("pagehide", () => api.remember(state, true).catch(() => {}));

// Choose, show it, remember it.
export function set(changes) {
  Object.assign(state, changes);
  session.changed();
  remember();
}

export function say(text, good = true) {
  $("notice").firstElementChild.textContent = text;
  $("notice").classList.toggle("said", good);
  $("notice").hidden = false;
  clearTimeout(say.timer);
  if (good) say.timer = setTimeout(() => ($("notice").hidden = true), 8000);
}

export function fail(error) {
  if (error.name !== "AbortError") say(error.message, false);
}
