/**
 * Segments photos beside the page's own thread, so that the page stays alive meanwhile.
 *
 * @typedef {{path: string, bytes: number}} Part
 * @typedef {{
 *   classes: {name: string, colour: number[]}[],
 *   working_size: number[],
 *   runtime: Part,
 *   model: Part,
 *   samples: string[],
 * }} About What `docs/try_it.py` says of the files beside this one.
 * @typedef {{id: number, photo: Blob, about: About}} Request
 * @typedef {{id: number} & (
 *   | {kind: "loading", loaded: number, total: number}
 *   | {kind: "computing"}
 *   | {kind: "failed", reason: string}
 *   | {kind: "done", height: number, width: number, shares: number[], mask: Blob, tint: Blob,
 *      outline: Blob, seconds: number, threads: number}
 * )} Answer
 * @typedef {import("./pixels.js").Size} Size
 */

import { labelled, outlines, resized, workingSize } from "./pixels.js";
import { picture } from "./png.js";

const MOST_THREADS = 4;

/** @type {Promise<import("onnxruntime-web").InferenceSession> | undefined} */
let session;
/** @type {typeof import("onnxruntime-web")} */
let runtime;

/** @param {string} path @returns {string} */
const beside = (path) => new URL(path, import.meta.url).href;

/**
 * Fetch a file, which a server may or may not have unpacked on its way.
 *
 * @param {Part} part
 * @param {(bytes: number) => void} arrived Told how many bytes more are here.
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 */
async function fetched(part, arrived) {
  const response = await fetch(beside(part.path));
  if (!response.ok || !response.body) {
    throw new Error(`${part.path}: ${response.status} ${response.statusText}`);
  }
  const chunks = [];
  const reader = response.body.getReader();
  for (let read = await reader.read(); !read.done; read = await reader.read()) {
    chunks.push(read.value);
    arrived(read.value.length);
  }
  const file = new Blob(chunks);
  const [first, second] = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  const packed = first === 0x1f && second === 0x8b;
  const bytes = packed ? file.stream().pipeThrough(new DecompressionStream("gzip")) : file;
  return new Uint8Array(await new Response(bytes).arrayBuffer());
}

/** @param {About} about @param {(loaded: number, total: number) => void} report */
async function loaded(about, report) {
  const total = about.runtime.bytes + about.model.bytes;
  let bytes = 0;
  /** @param {number} more */
  const arrived = (more) => report((bytes += more), total);
  const [wasm, model] = await Promise.all([
    fetched(about.runtime, arrived),
    fetched(about.model, arrived),
    import(beside("onnxruntime/ort.wasm.bundle.min.mjs")).then((module) => (runtime = module)),
  ]);
  const cores = navigator.hardwareConcurrency;
  runtime.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(cores, MOST_THREADS) : 1;
  runtime.env.wasm.wasmBinary = wasm;
  return runtime.InferenceSession.create(model, { executionProviders: ["wasm"] });
}

/** @param {Blob} photo @returns {Promise<ImageBitmap>} Upright; colour profiles are left aside. */
async function decoded(photo) {
  try {
    return await createImageBitmap(photo, {
      imageOrientation: "from-image",
      colorSpaceConversion: "none",
    });
  } catch {
    const name = photo instanceof File ? photo.name : "The file";
    throw new Error(
      `${name} (${photo.type || "of unknown type"}, ${photo.size.toLocaleString("en")} bytes) ` +
        "is not a photo that this browser can read. Choose a JPEG, PNG or WebP file.",
    );
  }
}

/** @param {ImageBitmap} bitmap @returns {(top: number, rows: number) => Uint8ClampedArray} */
function stripsOf(bitmap) {
  return (top, rows) => {
    const canvas = new OffscreenCanvas(bitmap.width, rows);
    const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
    if (!context) {
      throw new Error(`The browser has no memory left for a photo ${bitmap.width} pixels wide.`);
    }
    context.fillStyle = "white"; // behind what is transparent
    context.fillRect(0, 0, bitmap.width, rows);
    context.drawImage(bitmap, 0, -top);
    return context.getImageData(0, 0, bitmap.width, rows).data;
  };
}

/** @param {Request} request @param {(answer: any) => void} say */
async function segment({ photo, about }, say) {
  const bitmap = await decoded(photo);
  session ??= loaded(about, (loaded, total) => say({ kind: "loading", loaded, total }));
  const network = await session.catch((error) => {
    session = undefined; // the next photo tries again
    throw new Error(`The network could not be loaded. ${error.message}`);
  });
  say({ kind: "computing" });
  const start = performance.now();
  const size = { height: bitmap.height, width: bitmap.width };
  const [height, width] = about.working_size;
  const canvas = workingSize(size, { height, width });
  const seen = resized(stripsOf(bitmap), size, canvas);
  bitmap.close();
  const image = new runtime.Tensor("uint8", seen, [1, canvas.height, canvas.width, 3]);
  const { probabilities } = await network.run({ image }, ["probabilities"]);
  const values = /** @type {Float32Array} */ (probabilities.data);
  const { labels, shares } = labelled(values, canvas, about.classes.length, size);
  probabilities.dispose();
  const colours = about.classes.map(({ colour }) => colour);
  say({
    kind: "done",
    ...size,
    shares,
    mask: await picture(labels, size, colours, false),
    tint: await picture(labels, size, colours, true),
    outline: await picture(outlines(labels, size), size, colours, true),
    seconds: (performance.now() - start) / 1000,
    threads: runtime.env.wasm.numThreads,
  });
}

let queue = Promise.resolve();

globalThis.addEventListener("message", ({ data }) => {
  /** @param {object} answer */
  const say = (answer) => postMessage({ id: data.id, ...answer });
  queue = queue
    .then(() => segment(data, say))
    .catch((error) => say({ kind: "failed", reason: error.message }));
});
