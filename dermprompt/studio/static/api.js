// The studio's API, version 1 (docs/studio.md). What fails throws an Error with a sentence for the page.

const ROOT = "/api/v1";
const AWAY = "The studio does not answer. Is it still running? Nothing is lost.";

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(ROOT + path, options);
  } catch (error) {
    throw error.name === "AbortError" ? error : new Error(AWAY);
  }
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error || AWAY);
  return answer;
}

function body(value) {
  return { headers: { "Content-Type": "application/json" }, body: JSON.stringify(value) };
}

export const about = async () => (await ask("")).json();
export const settings = async () => (await ask("/settings")).json();
export const remember = (value, keepalive) => ask("/settings", { method: "PUT", keepalive, ...body(value) });
export const pictureRecord = async (id) => (await ask(`/pictures/${id}.json`)).json();
export const prompt = async (named) => (await ask("/prompts", { method: "POST", ...body(named) })).json();
export const maskURL = (id) => `${ROOT}/masks/${id}.png`;
export const pictureURL = (id, ending) => `${ROOT}/pictures/${id}.${ending}`;
export const downloadSet = async (pictures) => (await ask("/sets", { method: "POST", ...body({ pictures }) })).blob();

export async function sendMask(blob, size) {
  return (await ask(`/masks?size=${size}`, { method: "POST", body: blob })).json();
}

// What waits, steps, and ends in a result: each event is handed on, the last one's keys are returned together.
async function follow(answer, onEvent) {
  const found = {};
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      throw error.name === "AbortError" ? error : new Error(AWAY);
    });
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const event of lines.map((line) => JSON.parse(line))) {
      if (event.error) throw new Error(event.error);
      Object.assign(found, event);
      onEvent?.(event);
    }
  }
  if (!found.done) throw new Error(AWAY);
  return found;
}

export async function draw(drawing, onEvent, signal) {
  return follow(await ask("/pictures", { method: "POST", signal, ...body(drawing) }), onEvent);
}

export async function roll(masks, seed, size, onEvent) {
  return follow(await ask("/rolls", { method: "POST", ...body({ masks, seed, size }) }), onEvent);
}

export async function segment(file, segmenter, size, onEvent) {
  const query = new URLSearchParams({ segmenter, size });
  return follow(await ask(`/segments?${query}`, { method: "POST", body: file }), onEvent);
}
