/**
 * What `Segmenter` does to a photo before and after the network, to the same numbers.
 *
 * Sizes are {height, width}; photos and planes lie row by row.
 *
 * @typedef {{height: number, width: number}} Size
 */

const SMALLEST_SIDE = 16;
const FIXED_POINT = 22; // bits behind the point of a filter's weights, as in Pillow
const STRIP = 2 ** 22; // pixels of a photo that are held as RGBA at once

/** @param {number} value @returns {number} Rounded as Python does: halves to the even number. */
function rounded(value) {
  const low = Math.floor(value);
  const above = value - low;
  return above > 0.5 || (above === 0.5 && low % 2 === 1) ? low + 1 : low;
}

/**
 * Return the size at which the network sees a photo.
 *
 * @param {Size} photo
 * @param {Size} frame What it is fitted into, with its proportions.
 * @returns {Size}
 */
export function workingSize(photo, frame) {
  const ratio = Math.min(frame.height / photo.height, frame.width / photo.width);
  return {
    height: Math.max(SMALLEST_SIDE, rounded(photo.height * ratio)),
    width: Math.max(SMALLEST_SIDE, rounded(photo.width * ratio)),
  };
}

/**
 * Return a triangle filter as wide as the reduction: for each target pixel its first source pixel,
 * how many it looks at, and their weights in fixed point.
 *
 * @param {number} source
 * @param {number} target
 */
function triangle(source, target) {
  const scale = source / target;
  const reach = Math.max(1, scale);
  const room = Math.ceil(reach) * 2 + 1;
  const first = new Int32Array(target);
  const count = new Int32Array(target);
  const weights = new Int32Array(target * room);
  for (let i = 0; i < target; i++) {
    const centre = (i + 0.5) * scale;
    first[i] = Math.max(0, Math.floor(centre - reach + 0.5));
    count[i] = Math.min(source, Math.floor(centre + reach + 0.5)) - first[i];
    const exact = Array.from({ length: count[i] }, (_, k) =>
      Math.max(0, 1 - Math.abs((first[i] + k + 0.5 - centre) / reach)),
    );
    const sum = exact.reduce((a, b) => a + b);
    exact.forEach((weight, k) => {
      weights[i * room + k] = Math.floor((weight / sum) * 2 ** FIXED_POINT + 0.5);
    });
  }
  return { first, count, weights, room };
}

/**
 * Resize a photo as `photos.resize` does, never holding all of it.
 *
 * @param {(top: number, rows: number) => Uint8ClampedArray} strip Some rows of the photo as RGBA.
 * @param {Size} photo
 * @param {Size} target
 * @returns {Uint8Array} RGB
 */
export function resized(strip, photo, target) {
  const half = 2 ** (FIXED_POINT - 1);
  const row = target.width * 3;
  const across = triangle(photo.width, target.width);
  const narrow = new Uint8Array(photo.height * row);
  const step = Math.max(1, Math.floor(STRIP / photo.width));
  for (let top = 0, to = 0; top < photo.height; top += step) {
    const rows = Math.min(step, photo.height - top);
    const rgba = strip(top, rows);
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < target.width; x++) {
        let red = half;
        let green = half;
        let blue = half;
        let from = (y * photo.width + across.first[x]) * 4;
        const end = x * across.room + across.count[x];
        for (let k = x * across.room; k < end; k++, from += 4) {
          const weight = across.weights[k];
          red += rgba[from] * weight;
          green += rgba[from + 1] * weight;
          blue += rgba[from + 2] * weight;
        }
        narrow[to++] = red >> FIXED_POINT;
        narrow[to++] = green >> FIXED_POINT;
        narrow[to++] = blue >> FIXED_POINT;
      }
    }
  }
  const down = triangle(photo.height, target.height);
  const result = new Uint8Array(target.height * row);
  for (let y = 0, to = 0; y < target.height; y++) {
    for (let x = 0; x < row; x++) {
      let sum = half;
      for (let k = 0; k < down.count[y]; k++) {
        sum += narrow[(down.first[y] + k) * row + x] * down.weights[y * down.room + k];
      }
      result[to++] = sum >> FIXED_POINT;
    }
  }
  return result;
}

/**
 * Return, for each pixel of a resized axis, its two source pixels and the second's weight.
 *
 * @param {number} source
 * @param {number} target
 */
function taps(source, target) {
  const low = new Int32Array(target);
  const high = new Int32Array(target);
  const weight = new Float32Array(target);
  for (let i = 0; i < target; i++) {
    const centre = Math.min(Math.max((i + 0.5) * (source / target) - 0.5, 0), source - 1);
    low[i] = Math.floor(centre);
    high[i] = Math.min(low[i] + 1, source - 1);
    weight[i] = centre - low[i];
  }
  return { low, high, weight };
}

/**
 * Resize probabilities to the photo's size and take the likeliest class of each pixel.
 *
 * @param {Float32Array} probabilities Shape (height, width, classes).
 * @param {Size} canvas Their height and width.
 * @param {number} classes
 * @param {Size} photo
 * @returns {{labels: Uint8Array, shares: number[]}} The labels, and the share of each class.
 */
export function labelled(probabilities, canvas, classes, photo) {
  const rows = taps(canvas.height, photo.height);
  const columns = taps(canvas.width, photo.width);
  const length = canvas.width * classes;
  const blended = new Float32Array(length);
  const labels = new Uint8Array(photo.height * photo.width);
  const counts = new Array(classes).fill(0);
  for (let y = 0, at = 0; y < photo.height; y++) {
    const above = rows.low[y] * length;
    const below = rows.high[y] * length;
    for (let k = 0; k < length; k++) {
      const value = probabilities[above + k];
      blended[k] = value + (probabilities[below + k] - value) * rows.weight[y];
    }
    for (let x = 0; x < photo.width; x++) {
      const left = columns.low[x] * classes;
      const right = columns.high[x] * classes;
      let best = -1;
      let label = 0;
      for (let k = 0; k < classes; k++) {
        const value = blended[left + k] + (blended[right + k] - blended[left + k]) * columns.weight[x];
        if (value > best) {
          best = value;
          label = k;
        }
      }
      labels[at++] = label;
      counts[label]++;
    }
  }
  return { labels, shares: counts.map((count) => count / labels.length) };
}

/**
 * Return the labels that lie along the border to another label, and 0 elsewhere.
 *
 * @param {Uint8Array} labels
 * @param {Size} size
 * @returns {Uint8Array}
 */
export function outlines(labels, { height, width }) {
  const result = new Uint8Array(labels.length);
  const thick = Math.max(1, Math.round(Math.max(height, width) / 400));
  /** @param {number} start @param {number} step @param {number} length */
  function along(start, step, length) {
    for (let end = 1, from = 0; end <= length; end++) {
      const label = labels[start + from * step];
      if (end < length && labels[start + end * step] === label) {
        continue;
      }
      for (let i = from; i < end; i++) {
        if ((from > 0 && i < from + thick) || (end < length && i >= end - thick)) {
          result[start + i * step] = label;
        }
      }
      from = end;
    }
  }
  for (let y = 0; y < height; y++) {
    along(y * width, 1, width);
  }
  for (let x = 0; x < width; x++) {
    along(x, width, height);
  }
  return result;
}
