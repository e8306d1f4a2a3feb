/** The page's side: takes a photo, hands it to the worker, shows what comes back. */

/** @typedef {import("./worker.js").About} About */
/** @typedef {import("./worker.js").Answer} Answer */

const NEEDED = [
  "WebAssembly",
  "Worker",
  "OffscreenCanvas",
  "createImageBitmap",
  "CompressionStream",
  "DecompressionStream",
];

/** @param {string} path @returns {string} */
const beside = (path) => new URL(path, import.meta.url).href;

/** @template {Element} T @param {string} name @param {new () => T} type @returns {T} */
function part(name, type) {
  const element = document.getElementById(`try-it-${name}`);
  if (!(element instanceof type)) {
    throw new Error(`the page has no ${name}`);
  }
  return element;
}

const zone = part("zone", HTMLLabelElement);
const file = part("file", HTMLInputElement);
const samples = part("samples", HTMLUListElement);
const status = part("status", HTMLParagraphElement);
const problem = part("problem", HTMLParagraphElement);
const progress = part("progress", HTMLProgressElement);
const amount = part("amount", HTMLElement);
const result = part("result", HTMLElement);
const picture = part("picture", HTMLDivElement);
const photo = part("photo", HTMLImageElement);
const tint = part("tint", HTMLImageElement);
const outline = part("outline", HTMLImageElement);
const opacity = part("opacity", HTMLInputElement);
const classes = part("classes", HTMLTableSectionElement);
const save = part("save", HTMLAnchorElement);

/** @param {string} text Read out by a screen reader whenever it changes. */
function tell(text) {
  if (status.textContent !== text) {
    status.textContent = text;
  }
}

/** @param {string} text */
function fail(text) {
  tell("");
  progress.hidden = true;
  amount.textContent = "";
  problem.textContent = text;
  problem.hidden = false;
}

/** @param {number} bytes */
const megabytes = (bytes) => (bytes / 1e6).toFixed(1);

/** @param {number} share */
const percent = (share) => `${(100 * share).toFixed(1)} %`;

/**
 * A worker from a blob keeps to the page's security policy; one from a file has its server's.
 *
 * @returns {Worker}
 */
function startWorker() {
  const code = `import ${JSON.stringify(beside("worker.js"))};`;
  const blob = new Blob([code], { type: "text/javascript" });
  return new Worker(URL.createObjectURL(blob), { type: "module" });
}

/** @param {About} about */
function start(about) {
  const worker = startWorker();
  let latest = 0;
  let name = "";

  /** @param {Blob} blob @param {string} title */
  function take(blob, title) {
    latest += 1;
    name = title;
    problem.hidden = true;
    result.hidden = true;
    URL.revokeObjectURL(photo.src);
    photo.src = URL.createObjectURL(blob);
    tell(`Reading ${title} …`);
    worker.postMessage({ id: latest, photo: blob, about });
  }

  /** @param {Extract<Answer, {kind: "done"}>} answer */
  function show(answer) {
    for (const [image, blob] of /** @type {const} */ ([
      [tint, answer.tint],
      [outline, answer.outline],
    ])) {
      URL.revokeObjectURL(image.src);
      image.src = URL.createObjectURL(blob);
    }
    URL.revokeObjectURL(save.href);
    save.href = URL.createObjectURL(answer.mask);
    save.download = `${name.replace(/\.[^.]*$/, "")}_labels.png`;
    picture.style.setProperty("--shape", String(answer.width / answer.height));
    const found = about.classes.flatMap((each, label) => {
      const share = answer.shares[label];
      classes.rows[label].cells[1].textContent = percent(share);
      classes.rows[label].classList.toggle("try-it-absent", share === 0);
      return label > 0 && share > 0 ? [`${each.name} ${percent(share)}`] : [];
    });
    tint.alt = found.length ? `Masks: ${found.join(", ")}` : "No clothes were found";
    const time = `${answer.seconds.toFixed(1)} s`;
    const threads = answer.threads === 1 ? "one thread" : `${answer.threads} threads`;
    const clothes = found.length ? "" : ` ${tint.alt}.`;
    tell(`${answer.width} × ${answer.height} pixels in ${time}, in ${threads}.${clothes}`);
    result.hidden = false;
    picture.scrollIntoView({ block: "nearest" });
  }

  worker.addEventListener("message", (event) => {
    const answer = /** @type {Answer} */ (event.data);
    if (answer.id !== latest && answer.kind !== "loading") {
      return; // another photo was chosen meanwhile
    }
    progress.hidden = answer.kind === "done" || answer.kind === "failed";
    if (answer.kind === "loading") {
      progress.max = answer.total;
      progress.value = answer.loaded;
      amount.textContent = `${megabytes(answer.loaded)} of ${megabytes(answer.total)} MB`;
      tell("Loading the network …");
    } else if (answer.kind === "computing") {
      progress.removeAttribute("value");
      amount.textContent = "";
      tell("Looking for clothes …");
    } else if (answer.kind === "failed") {
      fail(answer.reason);
    } else {
      show(answer);
    }
  });
  worker.addEventListener("error", (event) => {
    fail(`The page's program could not be started: ${event.message || "see the browser's console"}`);
  });

  file.addEventListener("change", () => {
    const [chosen] = file.files ?? [];
    if (chosen) {
      take(chosen, chosen.name);
    }
    file.value = ""; // so that the same file can be chosen again
  });

  addEventListener("dragover", (event) => {
    event.preventDefault();
    zone.classList.add("try-it-over");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) {
      zone.classList.remove("try-it-over");
    }
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("try-it-over");
    const [dropped] = event.dataTransfer?.files ?? [];
    if (dropped) {
      take(dropped, dropped.name);
    } else {
      fail("What was dropped is no file. Drop a photo from a folder, or choose one.");
    }
  });

  opacity.addEventListener("input", () => {
    tint.style.opacity = opacity.value;
  });

  for (const [index, path] of about.samples.entries()) {
    const image = new Image();
    image.src = beside(path);
    image.alt = `Sample photo ${index + 1}`;
    const button = document.createElement("button");
    button.type = "button";
    button.append(image);
    button.addEventListener("click", () => {
      fetch(image.src)
        .then((response) => response.blob())
        .then((blob) => take(blob, path.replace(/.*\//, "")))
        .catch((error) => fail(`${image.alt} could not be loaded: ${error.message}`));
    });
    const item = document.createElement("li");
    item.append(button);
    samples.append(item);
  }
  for (const { name, colour } of about.classes) {
    const row = classes.insertRow();
    const swatch = document.createElement("span");
    swatch.className = "try-it-swatch";
    swatch.style.backgroundColor = `rgb(${colour.join(" ")})`;
    const title = document.createElement("th");
    title.scope = "row";
    title.append(swatch, name);
    row.append(title, row.insertCell());
  }
  const size = megabytes(about.runtime.bytes + about.model.bytes);
  part("private", HTMLElement).append(` The first photo loads the network, ${size} MB.`);
  file.disabled = false;
  tell("");
}

const missing = NEEDED.filter((name) => !(name in globalThis));
if (missing.length) {
  fail(`This browser lacks ${missing.join(" and ")}, which the page needs. Try a current browser.`);
} else {
  fetch(beside("about.json"))
    .then((response) => response.json())
    .then(start)
    .catch(() => fail("The network's files are not beside this page: build it with “make docs”."));
}
