// What a picture shows and what draws it: generators, labels, prompt.

import * as api from "./api.js";
import { element } from "./pictures.js";
import { $, fail, session, set, state } from "./session.js";

export function offers() {
  return session.about.generators.filter((one) => state.generators.includes(one.id) && !one.unavailable);
}

// The generator whose words and sampler are shown: the first that reads any.
export function reader() {
  return offers().find((one) => one.template);
}

function chip(label, count, pressed, onclick, why) {
  const made = element("button", { type: "button", class: "chip", "aria-pressed": pressed, onclick }, label);
  if (count !== undefined) made.append(element("span", {}, String(count)));
  if (why) Object.assign(made, { disabled: true, title: why });
  return made;
}

export function showGenerators() {
  const made = session.about.generators.map((one) => chip(one.title, undefined, state.generators.includes(one.id), () => choose(one.id), one.unavailable));
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

export function showLabels() {
  const one = reader();
  $("mode").hidden = !one;
  $("sampling").hidden = !offers().some((offer) => offer.sampler);
  $("labels").hidden = !one || state.mode !== "labels";
  $("words").hidden = !one || state.mode !== "words";
  $("every-diagnosis").disabled = !one;
  $("every-scale").disabled = !offers().some((offer) => offer.sampler);
  $("prompt").parentElement.hidden = $("labels").hidden;
  if (one) showChips(one);
  if (one) showPrompt(one);
}

function showChips(one) {
  const words = session.about.templates[one.template];
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

// The prompt as the generator's template words it.
let shown;
async function showPrompt(one) {
  const named = JSON.stringify({ generator: one.id, ...prompted(one) });
  if (named === shown) return;
  shown = named;
  try {
    const { prompt } = await api.prompt(JSON.parse(named));
    if (named === shown) $("prompt").textContent = prompt;
  } catch (error) {
    fail(error);
  }
}

function prompted(one, diagnosis = state.diagnosis) {
  if (!one.template || state.mode === "none") return {};
  if (state.mode === "words") return { text: state.text };
  return { attributes: state.attributes, ...(diagnosis && { diagnosis }) };
}

function sampled(one, scale = state.conditioning_scale) {
  if (!one.sampler) return {};
  return { sampler: state.sampler, num_steps: state.num_steps, guidance_scale: state.guidance_scale, conditioning_scale: scale };
}

export function asked(one, { seed = state.seed, diagnosis, scale } = {}) {
  return { generator: one.id, seed, ...prompted(one, diagnosis), ...sampled(one, scale) };
}
