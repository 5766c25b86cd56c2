// The page: its controls, what they ask the API for, and what is remembered of both.

import * as api from "./api.js";
import { Painter } from "./paint.js";
import { Card, element } from "./pictures.js";
import { drawOutlines } from "./outline.js";

const $ = (id) => document.getElementById(id);
const AT_ONCE = 2; // one that is drawn, one that waits for it
const MOST_REMEMBERED = 60;
const SCALES = [0, 0.5, 1, 1.5, 2];
const SLIDERS = ["num_steps", "guidance", "control_scale"];

let about; // what the studio offers
let state = {
  mask: null, generators: ["box-controlnet"], mode: "labels", diagnosis: null, attributes: [], text: "", seed: 0, fresh: false,
  sampler: "dpm", num_steps: 10, guidance: 2, control_scale: 1, tool: "brush", brush: 16, colour: "#19b3a6", opacity: 55,
  outlines: true, theme: "auto", history: [], set: [], shown: [],
};
let cards = [];
let drawing = null; // what cancels it
let photographed = null;

const painter = new Painter($("canvas"), () => keepMask());

// What is remembered.

let timer;
function remember() {
  clearTimeout(timer);
  timer = setTimeout(() => api.remember(state).catch(fail), 400);
}

function set(changes) {
  Object.assign(state, changes);
  show();
  remember();
}

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

addEventListener("pagehide", () => api.remember(state, true).catch(() => {}));

// What is said.

function say(text, good = true) {
  $("notice").firstElementChild.textContent = text;
  $("notice").classList.toggle("said", good);
  $("notice").hidden = false;
  clearTimeout(say.timer);
  if (good) say.timer = setTimeout(() => ($("notice").hidden = true), 8000);
}

function fail(error) {
  if (error.name !== "AbortError") say(error.message, false);
}

$("notice").lastElementChild.onclick = () => ($("notice").hidden = true);

async function watch() {
  try {
    const now = await api.about();
    $("status").className = now.ready ? "ready" : "";
    $("status").textContent = now.waiting > 1 ? `${now.waiting} jobs in the queue` : now.ready ? "ready" : "loading the networks";
    about = now;
    showGenerators();
  } catch {
    $("status").className = "away";
    $("status").textContent = "not answering";
  }
  setTimeout(watch, $("status").className === "ready" ? 5000 : 1500);
}

// What is shown.

function offers() {
  return about.generators.filter((one) => state.generators.includes(one.id) && !one.unavailable);
}

// The generator whose words and sampler are shown: the first that reads any.
function reader() {
  return offers().find((one) => one.template);
}

function chip(label, count, pressed, onclick, why) {
  const made = element("button", { type: "button", class: "chip", "aria-pressed": pressed, onclick }, label);
  if (count !== undefined) made.append(element("span", {}, String(count)));
  if (why) Object.assign(made, { disabled: true, title: why });
  return made;
}

function showGenerators() {
  const made = about.generators.map((one) => chip(one.title, undefined, state.generators.includes(one.id), () => choose(one.id), one.unavailable));
  replaceChips($("generators"), made);
}

// A chip that has the focus keeps it.
function replaceChips(fieldset, made) {
  const holder = fieldset.querySelector(".chips");
  const at = [...holder.children].indexOf(document.activeElement);
  holder.replaceChildren(...made);
  if (at >= 0) made[at]?.focus();
}

function choose(id) {
  const others = state.generators.filter((one) => one !== id);
  const chosen = others.length < state.generators.length ? others : [...others, id];
  if (chosen.length) set({ generators: chosen });
}

function showLabels() {
  const one = reader();
  $("mode").hidden = !one;
  $("sampling").hidden = !offers().some((offer) => offer.sampler);
  $("labels").hidden = !one || state.mode !== "labels";
  $("words").hidden = !one || state.mode !== "words";
  $("every-diagnosis").disabled = !one;
  $("every-scale").disabled = !offers().some((offer) => offer.sampler);
  $("prompt").textContent = one ? promptOf(one) : "";
  $("prompt").parentElement.hidden = !one;
  if (one) showChips(one);
}

function showChips(one) {
  const words = about.templates[one.template];
  const has = one.vocabulary;
  const group = (names, counts, pressed, press) => Object.keys({ ...names, ...counts }).map((code) => {
    const why = counts && !counts[code] ? `none of its ${has.num_lesions} training images shows it` : undefined;
    return chip(names[code] ?? code, counts ? counts[code] ?? 0 : undefined, pressed(code), () => press(code), why);
  });
  replaceChips($("diagnoses"), group(words.diagnoses, has?.diagnoses, (code) => state.diagnosis === code,
    (code) => set({ diagnosis: state.diagnosis === code ? null : code })));
  const toggled = (code) => (state.attributes.includes(code) ? state.attributes.filter((name) => name !== code) : [...state.attributes, code]);
  replaceChips($("attributes"), group(words.attributes, has?.attributes, (code) => state.attributes.includes(code),
    (code) => set({ attributes: toggled(code) })));
  $("counts").textContent = has ? `The numbers say how many of its ${has.num_lesions} training images show it.` : "";
}

// As the template of the API's generator composes it.
function promptOf(one, diagnosis = state.diagnosis) {
  if (state.mode === "words") return state.text.trim();
  if (state.mode === "none") return "";
  const words = about.templates[one.template];
  const name = (diagnosis && (words.diagnoses[diagnosis] ?? diagnosis.replaceAll("_", " "))) || (one.template === "plain" ? "lesion" : "skin lesion");
  const attributes = [...Object.keys(words.attributes), ...state.attributes].filter((code, at, all) => state.attributes.includes(code) && all.indexOf(code) === at);
  const names = attributes.map((code) => words.attributes[code] ?? code.replaceAll("_", " "));
  const last = names.length > 1 ? ` and ${names.at(-1)}` : "";
  const listed = names.slice(0, names.length > 1 ? -1 : 1).join(", ") + last;
  return `${words.opening} ${"aeiou".includes(name[0].toLowerCase()) ? "an" : "a"} ${name}${listed ? ` with ${listed}` : ""}`;
}

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
  $("sampling-said").textContent = `${state.sampler}, ${state.num_steps} steps`;
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
  const past = state.history.map((one) => thumbnail(one.id, `Back to ${one.label}`, state.shown.includes(one.id), () => back(one)));
  $("history").replaceChildren(...(past.length ? past : [nothing("What you draw is listed here; a click goes back to its settings.")]));
  const members = state.set.map((id) => thumbnail(id, "Take out of the set", false, () => toggleSet(id)));
  $("members").replaceChildren(...(members.length ? members : [nothing("Add pictures that you like: together with their masks they make a data set.")]));
  $("set-said").textContent = state.set.length ? `${state.set.length} labelled ${state.set.length === 1 ? "image" : "images"}` : "";
  $("download").disabled = $("empty-set").disabled = !state.set.length;
}

// What is drawn.

function prompted(one, diagnosis = state.diagnosis) {
  if (!one.template || state.mode === "none") return {};
  if (state.mode === "words") return { text: state.text };
  return { attributes: state.attributes, ...(diagnosis && { diagnosis }) };
}

function sampled(one, scale = state.control_scale) {
  if (!one.sampler) return {};
  return { sampler: state.sampler, num_steps: state.num_steps, guidance: state.guidance, control_scale: scale };
}

function asked(one, { seed = state.seed, diagnosis, scale } = {}) {
  return { generator: one.id, seed, ...prompted(one, diagnosis), ...sampled(one, scale) };
}

// Plans of pictures: [label, drawing, size] each.
const plans = {
  draw: () => offers().map((one) => [one.title, asked(one), one.image_size]),
  four: () => offers().flatMap((one) => [0, 1, 2, 3].map((k) => [one.title, asked(one, { seed: (state.seed + k) % 2 ** 32 }), one.image_size])),
  diagnoses: () => {
    const one = reader();
    const words = about.templates[one.template];
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
  if (!wanted.length) return say("Choose what draws the picture first.", false);
  if (!painter.mask.includes(1)) return say("The mask is empty; paint where the lesion is.", false);
  drawing = new AbortController();
  busy(true);
  cards = wanted.map(([label]) => new Card(label, hooks));
  state.shown = [];
  present();
  try {
    const masks = await masksOf(new Set(wanted.map(([, , size]) => size)));
    await inTurns(wanted, (one, k) => drawOne(cards[k], one, masks));
  } catch (error) {
    fail(error);
  } finally {
    drawing = null;
    busy(false);
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
  const one = { id: picture.id, label: `${label}, seed ${picture.drawing.seed}`, drawing: picture.drawing, settings: { mode, text, diagnosis, attributes, generators } };
  state.history = [one, ...state.history.filter((other) => other.id !== one.id)].slice(0, MOST_REMEMBERED);
  state.shown.push(picture.id);
  showBackdrop();
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
  $("stage").replaceChildren(...cards.map((card) => card.root));
  $("stage").classList.toggle("two", cards.length <= 2);
  $("legend").hidden = !cards.length;
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
    const { seed, sampler, num_steps, guidance, control_scale, mask, generator, diagnosis = null, attributes = [] } = one.drawing;
    await showRecords([one.id]);
    await takeMask(mask);
    const drawn = Object.fromEntries(Object.entries({ sampler, num_steps, guidance, control_scale }).filter(([, value]) => value !== undefined));
    set({ ...one.settings, ...drawn, seed, generators: [generator], diagnosis: diagnosis ?? null, attributes, shown: [one.id] });
    keepMask();
  } catch (error) {
    fail(error);
  }
}

async function showRecords(ids) {
  const records = await Promise.all(ids.map(api.pictureRecord));
  cards = records.map((record) => new Card(record.generator.title, hooks));
  present();
  cards.forEach((card, k) => card.show(records[k]));
  compare();
}

async function takeMask(id, quiet) {
  const answer = await fetch(api.maskURL(id));
  if (!answer.ok) throw new Error("This mask is not kept any more.");
  painter.take(await createImageBitmap(await answer.blob()), quiet);
}

// What stands behind the mask.
async function showBackdrop() {
  const picture = state.history[0];
  const sources = { picture: picture && api.pictureURL(picture.id, "jpg"), photograph: photographed };
  const source = sources[$("backdrop").value];
  painter.backdrop = null;
  if (source) {
    const image = new Image();
    image.src = source;
    await image.decode().then(() => (painter.backdrop = image), () => {});
  }
  painter.render();
}

// Files.

async function importMask(file) {
  try {
    if (file.size > about.limits.image_bytes) throw new Error(`This file has more than ${about.limits.image_bytes / 2 ** 20} MB; that much is not taken.`);
    const found = await api.sendMask(file, painter.size);
    await takeMask(found.mask);
    say(found.notes.length ? `The mask was ${found.notes.join("; ")}.` : "The mask is imported as it is.");
  } catch (error) {
    fail(error);
  }
}

async function segment(file) {
  try {
    if (file.size > about.limits.image_bytes) throw new Error(`This file has more than ${about.limits.image_bytes / 2 ** 20} MB; that much is not taken.`);
    if (!about.segmenters.length) throw new Error("There is no segmenter here; start the studio on a store that has one.");
    say("The photograph is being outlined…");
    const found = await api.segment(file, $("segmenter").value, painter.size);
    if (photographed) URL.revokeObjectURL(photographed);
    photographed = URL.createObjectURL(file);
    const [image, canvas] = $("segmented").querySelectorAll("img, canvas");
    image.src = photographed;
    $("segmented").hidden = false;
    await drawOutlines(canvas, [[api.maskURL(found.mask), "#ffd84d", false]]);
    $("take").onclick = () => takeMask(found.mask).catch(fail);
    $("backdrop").value = "photograph";
    await showBackdrop();
    say(`The segmenter sees a lesion in ${Math.round(100 * found.area)} % of the photograph.`);
  } catch (error) {
    fail(error);
  }
}

async function roll() {
  try {
    $("roll").disabled = true;
    const found = await api.roll($("roll-kind").value, randomSeed(), painter.size);
    await takeMask(found.mask);
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
  on("backdrop", "change", showBackdrop);
  const clicks = {
    undo: () => painter.undo(), redo: () => painter.redo(), clear: () => painter.clear(), import: () => $("mask-file").click(), roll,
    photograph: () => $("photograph-file").click(), dice: () => set({ seed: randomSeed() }), draw: () => draw("draw"), four: () => draw("four"),
    "every-diagnosis": () => draw("diagnoses"), "every-scale": () => draw("scales"), cancel: () => drawing?.abort(),
    "empty-set": () => set({ set: [] }), download, "zoom-in": () => painter.zoomAt(painter.view.zoom * 1.5), "zoom-out": () => painter.zoomAt(painter.view.zoom / 1.5),
  };
  for (const [id, act] of Object.entries(clicks)) on(id, "click", act);
  for (const [id, act] of [["mask-file", importMask], ["photograph-file", segment]]) {
    on(id, "change", () => { if ($(id).files[0]) act($(id).files[0]); $(id).value = ""; });
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
    if (event.dataTransfer.files[0]) act(event.dataTransfer.files[0]);
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
  about = await api.about();
  const saved = await api.settings();
  state = { ...state, ...saved };
  const ids = about.generators.filter((one) => !one.unavailable).map((one) => one.id);
  state.generators = state.generators.filter((id) => ids.includes(id));
  if (!state.generators.length) state.generators = ids.slice(0, 1);
  const names = { realistic: "like real ones", transform: "a real one, deformed", paper_code: "circles, deformed", paper_text: "circles, as in the text" };
  $("roll-kind").replaceChildren(...about.masks.map((kind) => element("option", { value: kind }, names[kind] ?? kind)));
  $("segmenter").replaceChildren(...about.segmenters.map((id) => element("option", { value: id }, id === "box" ? "the reference segmenter" : id)));
  show();
  if (state.mask) await takeMask(state.mask, true).catch(fail);
  if (state.shown.length) await showRecords(state.shown).catch(() => {});
  show();
  document.body.dataset.started = "yes";
  watch();
}

start().catch(fail);
export { painter };
