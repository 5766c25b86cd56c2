// Cards of pictures: one that is being drawn, and one that is there, with how far it can be trusted.

import { maskURL, pictureURL } from "./api.js";
import { drawOutlines } from "./outline.js";

const PAINTED = "#17d1c1";
const FOUND = "#ffd84d";

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

export class Card {
  // `hooks`: said(text), inSet(id), toggleSet(id).
  constructor(label, hooks) {
    this.hooks = hooks;
    this.root = document.getElementById("card").content.firstElementChild.cloneNode(true);
    this.find(".title").textContent = label;
    this.label = label;
    this.find("img").alt = `Picture being drawn: ${label}`;
    for (const name of ["figcaption details", ".keep", ".trust"]) this.find(name).hidden = true;
    this.waits("queued");
  }

  find(selector) {
    return this.root.querySelector(selector);
  }

  waits(text, share) {
    this.find(".wait span").textContent = text;
    const bar = this.find("progress");
    if (share === undefined) bar.removeAttribute("value");
    else bar.value = share;
  }

  // An event of the API.
  tell(event) {
    if (event.waiting !== undefined) this.waits(event.waiting ? `${event.waiting} ahead in the queue` : "drawing");
    if (event.step) this.waits(`step ${event.step} of ${event.of}`, event.step / event.of);
    if (event.picture) this.show(event.picture);
    if (event.trust) this.trust(event.trust);
  }

  fail(sentence) {
    this.root.classList.add("failed");
    this.waits(sentence);
  }

  show(record) {
    this.record = record;
    const image = this.find("img");
    image.src = pictureURL(record.id, "jpg");
    image.alt = `${this.label}: ${record.prompt || "no prompt"}, drawn by ${record.generator.title}`;
    this.find(".wait").hidden = true;
    this.find(".title").replaceChildren(this.label, element("span", {}, ` seed ${record.drawing.seed}`));
    this.made(record);
    this.keep(record);
    if (record.trust) this.trust(record.trust);
    this.outline();
  }

  made(record) {
    const { drawing, generator } = record;
    const rows = {
      Generator: `${generator.title}, ${generator.digest}`,
      Prompt: record.prompt || "none",
      Seed: drawing.seed,
      Mask: drawing.mask,
      ...(drawing.sampler && {
        Sampler: `${drawing.sampler}, ${drawing.num_steps} steps, guidance ${drawing.guidance_scale}, conditioning ${drawing.conditioning_scale}`,
      }),
      Time: `${record.seconds.toFixed(2)} s`,
      ...(record.unread.length && { "Words the generator does not know": record.unread.join(", ") }),
    };
    const list = Object.entries(rows).flatMap(([key, value]) => [element("dt", {}, key), element("dd", {}, String(value))]);
    this.find(".made dl").replaceChildren(...list);
    this.find(".made").hidden = false;
  }

  keep(record) {
    const add = this.find(".add");
    const show = () => {
      const inside = this.hooks.inSet(record.id);
      add.setAttribute("aria-pressed", inside);
      add.textContent = inside ? "In the set" : "Add to set";
    };
    add.onclick = () => {
      this.hooks.toggleSet(record.id);
      show();
    };
    show();
    const save = this.find(".save");
    save.href = pictureURL(record.id, "png");
    save.download = `synthetic_${record.id}.png`;
    this.find(".copy").onclick = async () => {
      await navigator.clipboard.writeText(record.command).then(
        () => this.hooks.said("The command is on the clipboard: it draws the same picture, byte for byte."),
        () => this.hooks.said(record.command),
      );
    };
    this.find(".keep").hidden = false;
  }

  trust(trust) {
    this.record.trust = trust;
    this.find(".trust").replaceChildren(maskMark(trust.mask), copyMark(trust.copy, this.record.id));
    this.find(".trust").hidden = false;
    this.outline();
  }

  async outline() {
    if (!this.record) return;
    const canvas = this.find(".frame canvas");
    canvas.hidden = !document.getElementById("outlines").checked;
    if (canvas.hidden || !this.root.isConnected) return;
    const lines = [[maskURL(this.record.drawing.mask), PAINTED, false]];
    const found = this.record.trust?.mask.outline;
    document.getElementById("legend").hidden = !found;
    if (found) lines.push([maskURL(found), FOUND, true]);
    await drawOutlines(canvas, lines).catch(() => {}); // masks of long ago are forgotten
  }
}

function maskMark(mask) {
  const verdict = mask.dice >= 0.8 ? "good" : mask.dice >= 0.6 ? "fair" : "poor";
  const said = { good: "Mask obeyed", fair: "Mask obeyed in part", poor: "Mask not obeyed" }[verdict];
  return element("li", { class: verdict }, element("span", {}, element("b", {}, said), `: Dice ${mask.dice.toFixed(2)}`));
}

function copyMark(copy, id) {
  if (copy.distance === null) return element("li", {}, element("span", {}, `A copy? Unknown: ${copy.why}`));
  const threshold = copy.threshold === null ? "nothing to calibrate with" : `threshold ${copy.threshold.toFixed(2)}`;
  const said = element("span", {}, element("b", {}, copy.is_copy ? "Counts as a copy" : "No copy"),
    `: ${copy.distance.toFixed(2)} from the nearest training image, ${threshold} `);
  const mark = element("li", { class: copy.is_copy ? "poor" : "good" }, said);
  said.append(element("button", { type: "button", onclick: (event) => {
    event.target.remove();
    mark.append(element("img", { class: "near", src: pictureURL(id, "nearest.png"), alt: `Nearest training image, ${copy.nearest}` }));
  } }, "show it"));
  return mark;
}
