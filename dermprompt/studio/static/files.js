// Files that come in: masks, and photographs to outline.

import * as api from "./api.js";
import { drawOutlines } from "./outline.js";
import { $, fail, say, session, state } from "./session.js";

let photographed = null;

export async function takeMask(painter, id, quiet) {
  const answer = await fetch(api.maskURL(id));
  if (!answer.ok) throw new Error("This mask is no longer stored.");
  painter.take(await createImageBitmap(await answer.blob()), quiet);
}

// What stands behind the mask.
export async function showBackdrop(painter) {
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

export async function importMask(painter, file) {
  try {
    checkSize(file);
    const found = await api.sendMask(file, painter.size);
    await takeMask(painter, found.mask);
    say(found.notes.length ? `The mask was ${found.notes.join("; ")}.` : "The mask is imported as it is.");
  } catch (error) {
    fail(error);
  }
}

export async function segment(painter, file) {
  try {
    checkSize(file);
    if (!session.about.segmenters.length) throw new Error("No segmenter found; start the studio on a store that has one.");
    say("The photograph is being outlined…");
    const found = await api.segment(file, $("segmenter").value, painter.size);
    if (photographed) URL.revokeObjectURL(photographed);
    photographed = URL.createObjectURL(file);
    const [image, canvas] = $("segmented").querySelectorAll("img, canvas");
    image.src = photographed;
    $("segmented").hidden = false;
    await drawOutlines(canvas, [[api.maskURL(found.mask), "#ffd84d", false]]);
    $("take").onclick = () => takeMask(painter, found.mask).catch(fail);
    $("backdrop").value = "photograph";
    await showBackdrop(painter);
    say(`The segmenter sees a lesion in ${Math.round(100 * found.area)} % of the photograph.`);
  } catch (error) {
    fail(error);
  }
}

// A body that is too long would be cut off by the server, and no word of it be read.
function checkSize(file) {
  const most = session.about.limits.image_bytes;
  if (file.size > most) throw new Error(`This file has more than ${most / 2 ** 20} MB; that much is not taken.`);
}
