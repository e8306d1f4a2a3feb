/** Writes label maps as PNG files with a palette, whose pixel values are the labels. */

const SIGNATURE = new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10]);
const EIGHT_BIT_PALETTE = [8, 3, 0, 0, 0];
const POLYNOMIAL = 0xedb88320;

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) {
    value = value & 1 ? (value >>> 1) ^ POLYNOMIAL : value >>> 1;
  }
  return value;
});

/** @param {string} type @param {Uint8Array | number[]} data @returns {Uint8Array<ArrayBuffer>} */
function chunk(type, data) {
  const bytes = new Uint8Array(data.length + 12);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(new TextEncoder().encode(type), 4);
  bytes.set(data, 8);
  let crc = 0xffffffff;
  for (let i = 4; i < data.length + 8; i++) {
    crc = CRC[(crc ^ bytes[i]) & 255] ^ (crc >>> 8);
  }
  view.setUint32(data.length + 8, ~crc >>> 0);
  return bytes;
}

/** @param {Uint8Array<ArrayBuffer>} bytes @returns {Promise<Uint8Array>} In zlib's form. */
async function compressed(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/**
 * Return a label map as a picture.
 *
 * @param {Uint8Array} labels
 * @param {import("./pixels.js").Size} size
 * @param {number[][]} colours RGB of each label.
 * @param {boolean} transparent Whether label 0 is.
 * @returns {Promise<Blob>}
 */
export async function picture(labels, { height, width }, colours, transparent) {
  const lines = new Uint8Array(height * (width + 1)); // each begins with its filter: 0, none
  for (let y = 0; y < height; y++) {
    lines.set(labels.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  }
  const size = new DataView(new ArrayBuffer(8));
  size.setUint32(0, width);
  size.setUint32(4, height);
  const parts = [
    chunk("IHDR", [...new Uint8Array(size.buffer), ...EIGHT_BIT_PALETTE]),
    chunk("PLTE", colours.flat()),
    ...(transparent ? [chunk("tRNS", [0])] : []),
    chunk("IDAT", await compressed(lines)),
    chunk("IEND", []),
  ];
  return new Blob([SIGNATURE, ...parts], { type: "image/png" });
}
