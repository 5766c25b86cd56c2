// The page: its controls, what they ask the API for, and what is remembered of both.

import * as api from "./api.js";
import { importMask, segment, showBackdrop, takeMask } from "./files.js";
import { Painter } from "./paint.js";
import { asked, offers, reader, showGenerators, showLabels } from "./naming.js";
import { Card, element } from "./pictures.js";
import { $, fail, remember, say, session, set, state } from "./session.js";

const AT_ONCE = 2; // one that is drawn, one that waits for it
const MOST_REMEMBERED = 60;
const SCALES = [0, 0.5, 1, 1.5, 2];
const SLIDERS = ["num_steps", "guidance_scale", "conditioning_scale"];

let cards = [];
let drawing = null; // what cancels it

const painter = new Painter($("canvas"), () => keepMask());

let kept = Promise.resolve();
function keepMask() {
  showMask();
  kept = painter.blob().then(async (blob) => {
    // An empty mask is no image of a lesion: what is remembered of it is that there is none.
    const id = painter.mask.includes(1) ? (await api.sendMask(blob, painter.size)).mask : null;
    state.mask = id;
    remember();
    return id;
  }).catch(fail);
  return kept;
}

async function watch() {
  await look();
  setTimeout(watch, $("status").className === "ready" ? 5000 : 1500);
}

// Is the studio ready, how long is its queue, what does it offer?
async function look() {
  try {
    const now = (session.about = await api.about());
    $("status").className = now.ready ? "ready" : "";
    $("status").textContent = now.waiting > 1 ? `${now.waiting} jobs in the queue` : now.ready ? "ready" : "loading the networks";
    showGenerators();
  } catch {
    $("status").className = "away";
    $("status").textContent = "not answering";
  }
}

// What is shown.

function showMask() {
  const share = Math.round(100 * painter.area);
  $("canvas").setAttribute("aria-label", `Mask, ${share} % of it painted`);
  $("undo").disabled = !painter.past.length;
  $("redo").disabled = !painter.future.length;
}

function show() {
  for (const button of document.querySelectorAll("[data-tool]")) button.setAttribute("aria-checked", button.dataset.tool === state.tool);
  for (const button of document.querySelectorAll("[data-mode]")) button.setAttribute("aria-checked", button.dataset.mode === state.mode);
  Object.assign(painter, { tool: state.tool, diameter: state.brush, colour: state.colour, opacity: state.opacity / 100 });
  painter.paintLayer();
  for (const key of ["brush", "opacity", "colour", "seed", "text", "sampler", "theme", ...SLIDERS]) {
    if ($(key) !== document.activeElement || $(key).type === "range") $(key).value = state[key];
  }
  for (const key of ["fresh", "outlines"]) $(key).checked = state[key];
  for (const key of SLIDERS) $(key).nextElementSibling.value = state[key];
  $("brush-said").value = `${state.brush} px`;
  $("sampling-said").textContent = `${$("sampler").selectedOptions[0].text}, ${state.num_steps} steps`;
  document.documentElement.dataset.theme = state.theme;
  showGenerators();
  showLabels();
  showMask();
  showStrips();
}

function thumbnail(id, label, current, onclick) {
  const image = element("img", { src: api.pictureURL(id, "jpg"), alt: "", loading: "lazy" });
  return element("li", {}, element("button", { type: "button", title: label, "aria-label": label, "aria-current": current, onclick }, image));
}

function showStrips() {
  const nothing = (text) => element("li", { class: "nothing" }, text);
  const past = state.history.map((one) => thumbnail(one.id, `Back to ${one.label}, seed ${one.drawing.seed}`, state.shown.includes(one.id), () => back(one)));
  $("history").replaceChildren(...(past.length ? past : [nothing("Your pictures appear here; click one to go back to its settings.")]));
  const members = state.set.map((id) => thumbnail(id, "Take out of the set", false, () => toggleSet(id)));
  $("members").replaceChildren(...(members.length ? members : [nothing("Add pictures you like: together with their masks they make a data set.")]));
  $("set-said").textContent = state.set.length ? `${state.set.length} labelled ${state.set.length === 1 ? "image" : "images"}` : "";
  $("download").disabled = $("empty-set").disabled = !state.set.length;
}

// What is drawn.

// Plans of pictures: [label, drawing, size] each.
const plans = {
  draw: () => offers().map((one) => [one.title, asked(one), one.image_size]),
  four: () => offers().flatMap((one) => [0, 1, 2, 3].map((k) => [one.title, asked(one, { seed: (state.seed + k) % 2 ** 32 }), one.image_size])),
  diagnoses: () => {
    const one = reader();
    const words = session.about.templates[one.template];
    const codes = Object.keys(one.vocabulary?.diagnoses ?? words.diagnoses);
    state.mode = "labels";
    return codes.map((code) => [words.diagnoses[code] ?? code, asked(one, { diagnosis: code }), one.image_size]);
  },
  scales: () => offers().filter((one) => one.sampler).flatMap((one) => SCALES.map((scale) => [`conditioning ${scale}`, asked(one, { scale }), one.image_size])),
};

async function draw(plan) {
  if (drawing) return;
  if (state.fresh) set({ seed: randomSeed() });
  const wanted = plans[plan]();
  show();
  if (!wanted.length) return say("Choose a generator first.", false);
  if (!painter.mask.includes(1)) return say("The mask is empty; paint where the lesion is.", false);
  drawing = new AbortController();
  busy(true);
  cards = wanted.map(([label]) => new Card(label, hooks));
  state.shown = [];
  present();
  $("seeing").scrollIntoView({ block: "nearest" });
  try {
    const masks = await masksOf(new Set(wanted.map(([, , size]) => size)));
    await inTurns(wanted, (one, k) => drawOne(cards[k], one, masks));
  } catch (error) {
    fail(error);
  } finally {
    drawing = null;
    busy(false);
    look();
  }
}

// The mask's id at each size; at its own it is what was painted.
async function masksOf(sizes) {
  const blob = await painter.blob();
  const sent = [...sizes].map(async (size) => [size, (await api.sendMask(blob, size)).mask]);
  return Object.fromEntries(await Promise.all(sent));
}

async function inTurns(wanted, work) {
  const rest = [...wanted.entries()];
  const turn = async () => {
    while (rest.length) {
      const [k, one] = rest.shift();
      await work(one, k);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, turn));
}

async function drawOne(card, [label, drawn, size], masks) {
  const { signal } = drawing;
  try {
    signal.throwIfAborted();
    await api.draw({ ...drawn, mask: masks[size] }, (event) => {
      card.tell(event);
      if (event.picture) arrived(event.picture, label);
    }, signal);
  } catch (error) {
    card.fail(error.name === "AbortError" ? "cancelled" : error.message);
    if (error.name !== "AbortError") fail(error);
  }
}

function arrived(picture, label) {
  const { mode, text, diagnosis, attributes, generators } = state;
  const one = { id: picture.id, label, drawing: picture.drawing, settings: { mode, text, diagnosis, attributes, generators } };
  state.history = [one, ...state.history.filter((other) => other.id !== one.id)].slice(0, MOST_REMEMBERED);
  state.shown.push(picture.id);
  showBackdrop(painter);
  showStrips();
  remember();
}

function busy(now) {
  for (const id of ["draw", "four", "every-diagnosis", "every-scale"]) $(id).disabled = now;
  $("cancel").hidden = !now;
  if (!now) showLabels();
}

const hooks = { said: say, inSet: (id) => state.set.includes(id), toggleSet };

function toggleSet(id) {
  set({ set: state.set.includes(id) ? state.set.filter((one) => one !== id) : [...state.set, id] });
  for (const card of cards) if (card.record) card.keep(card.record);
}

function present() {
  $("legend").hidden = true; // until something is found
  $("stage").replaceChildren(...cards.map((card) => card.root));
  $("stage").classList.toggle("two", cards.length <= 2);
  compare();
}

// Two pictures over each other, the right one shown from the slider on.
function compare() {
  const there = cards.filter((card) => card.record);
  $("compare").hidden = !$("comparing").checked || there.length < 2;
  if ($("compare").hidden) return;
  for (const [side, card] of [["left", there[0]], ["right", there[1]]]) {
    $(side).src = card.find("img").src;
    $(side).alt = card.find("img").alt;
    $(`${side}-said`).textContent = card.find(".title").textContent;
  }
}

// Back to the settings and the mask of an earlier picture.
async function back(one) {
  try {
    const { seed, sampler, num_steps, guidance_scale, conditioning_scale, mask, generator, diagnosis = null, attributes = [] } = one.drawing;
    await showRecords([one]);
    await takeMask(painter, mask);
    const drawn = Object.fromEntries(Object.entries({ sampler, num_steps, guidance_scale, conditioning_scale }).filter(([, value]) => value !== undefined));
    set({ ...one.settings, ...drawn, seed, generators: [generator], diagnosis: diagnosis ?? null, attributes, shown: [one.id] });
    keepMask();
  } catch (error) {
    fail(error);
  }
}

// Pictures of before, of the history's rows.
async function showRecords(past) {
  const records = await Promise.all(past.map(({ id }) => api.pictureRecord(id)));
  cards = past.map((one) => new Card(one.label, hooks));
  present();
  cards.forEach((card, k) => card.show(records[k]));
  compare();
}

async function roll() {
  try {
    $("roll").disabled = true;
    const found = await api.roll($("roll-kind").value, randomSeed(), painter.size);
    await takeMask(painter, found.mask);
  } catch (error) {
    fail(error);
  } finally {
    $("roll").disabled = false;
  }
}

function randomSeed() {
  return crypto.getRandomValues(new Uint32Array(1))[0];
}

async function download() {
  try {
    const url = URL.createObjectURL(await api.downloadSet(state.set));
    element("a", { href: url, download: "studio_set.zip" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  } catch (error) {
    fail(error);
  }
}

// Controls.

function listen() {
  const on = (id, name, act) => $(id).addEventListener(name, act);
  for (const button of document.querySelectorAll("[data-tool]")) button.onclick = () => set({ tool: button.dataset.tool });
  for (const button of document.querySelectorAll("[data-mode]")) button.onclick = () => set({ mode: button.dataset.mode });
  for (const group of document.querySelectorAll("[role=radiogroup]")) group.addEventListener("keydown", step);
  for (const key of ["brush", "opacity", ...SLIDERS]) on(key, "input", () => set({ [key]: Number($(key).value) }));
  for (const key of ["colour", "text"]) on(key, "input", () => set({ [key]: $(key).value }));
  for (const key of ["sampler", "theme"]) on(key, "change", () => set({ [key]: $(key).value }));
  on("fresh", "change", () => set({ fresh: $("fresh").checked }));
  on("seed", "change", () => set({ seed: Math.min(2 ** 32 - 1, Math.max(0, Math.trunc(Number($("seed").value)) || 0)) }));
  on("outlines", "change", () => { set({ outlines: $("outlines").checked }); cards.forEach((card) => card.outline()); });
  on("comparing", "change", compare);
  on("divide", "input", () => $("compare").style.setProperty("--divide", `${$("divide").value}%`));
  on("backdrop", "change", () => showBackdrop(painter));
  const clicks = {
    undo: () => painter.undo(), redo: () => painter.redo(), clear: () => painter.clear(), import: () => $("mask-file").click(), roll,
    photograph: () => $("photograph-file").click(), dice: () => set({ seed: randomSeed() }), draw: () => draw("draw"), four: () => draw("four"),
    "every-diagnosis": () => draw("diagnoses"), "every-scale": () => draw("scales"), cancel: () => drawing?.abort(),
    "empty-set": () => set({ set: [] }), download, "zoom-in": () => painter.zoomAt(painter.view.zoom * 1.5), "zoom-out": () => painter.zoomAt(painter.view.zoom / 1.5),
  };
  for (const [id, act] of Object.entries(clicks)) on(id, "click", act);
  for (const [id, act] of [["mask-file", importMask], ["photograph-file", segment]]) {
    on(id, "change", () => { if ($(id).files[0]) act(painter, $(id).files[0]); $(id).value = ""; });
  }
  droppable($("canvas"), importMask);
  droppable($("photograph"), segment);
  on("canvas", "zoomed", () => ($("zoom").value = `${Math.round(100 * painter.view.zoom)} %`));
  addEventListener("keydown", keys);
  addEventListener("keyup", (event) => { if (event.code === "Space") painter.spacebar = false; });
  addEventListener("resize", () => cards.forEach((card) => card.outline()));
}

// Arrows move within a group of radio buttons.
function step(event) {
  const forward = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!forward) return;
  const buttons = [...event.currentTarget.querySelectorAll("[role=radio]")];
  const next = buttons[(buttons.indexOf(document.activeElement) + forward + buttons.length) % buttons.length];
  event.preventDefault();
  next.focus();
  next.click();
}

function droppable(target, act) {
  const over = (yes) => (event) => { event.preventDefault(); target.classList.toggle("over", yes); };
  target.addEventListener("dragover", over(true));
  target.addEventListener("dragleave", over(false));
  target.addEventListener("drop", (event) => {
    over(false)(event);
    if (event.dataTransfer.files[0]) act(painter, event.dataTransfer.files[0]);
  });
}

function keys(event) {
  const writing = event.target.matches("input:not([type=range], [type=checkbox]), textarea, select");
  const control = event.ctrlKey || event.metaKey;
  if (control && event.key === "Enter") return draw("draw");
  if (control && !writing && event.key.toLowerCase() === "z") {
    event.preventDefault();
    return event.shiftKey ? painter.redo() : painter.undo();
  }
  if (writing || control || event.altKey) return undefined;
  if (event.target === $("canvas") && paintKeys(event)) return event.preventDefault();
  const act = {
    "[": () => set({ brush: Math.max(1, state.brush - 2) }), "]": () => set({ brush: Math.min(64, state.brush + 2) }),
    b: () => set({ tool: "brush" }), e: () => set({ tool: "eraser" }), f: () => set({ tool: "fill" }),
    "+": () => painter.zoomAt(painter.view.zoom * 1.5), "-": () => painter.zoomAt(painter.view.zoom / 1.5), 0: () => painter.zoomAt(1),
  }[event.key];
  return act?.();
}

function paintKeys(event) {
  const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (arrow) painter.nudge(...arrow, event.shiftKey);
  else if (event.key === "Enter") painter.stamp();
  else if (event.code === "Space") painter.spacebar = true;
  else return false;
  return true;
}

async function start() {
  listen();
  session.about = await api.about();
  Object.assign(state, await api.settings());
  session.changed = show;
  const ids = session.about.generators.filter((one) => !one.unavailable).map((one) => one.id);
  state.generators = state.generators.filter((id) => ids.includes(id));
  if (!state.generators.length) state.generators = ids.slice(0, 1);
  const names = { realistic: "like real ones", transform: "a real one, deformed", paper_code: "circles, deformed", paper_text: "circles, as in the text" };
  $("roll-kind").replaceChildren(...session.about.masks.map((kind) => element("option", { value: kind }, names[kind] ?? kind)));
  $("segmenter").replaceChildren(...session.about.segmenters.map((id) => element("option", { value: id }, id === "box" ? "the reference segmenter" : id)));
  show();
  if (state.mask) await takeMask(painter, state.mask, true).catch(fail);
  const past = state.shown.map((id) => state.history.find((one) => one.id === id)).filter(Boolean);
  if (past.length) await showRecords(past).catch(() => {});
  show();
  document.body.dataset.started = "yes";
  watch();
}

start().catch(fail);
