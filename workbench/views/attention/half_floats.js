/** Numbers of a message, which come in half precision (16 bits) or in single precision. */
import { copied } from "../shared/values.js";

/** @type {Float32Array|null} The value of every pattern of 16 bits; made when it is first needed. */
let halfValues = null;

function makeHalfValues() {
  const values = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const power = (bits >> 10) & 31, fraction = bits & 1023;
    const size = power === 0 ? fraction * 2 ** -24 : power === 31 ? (fraction ? NaN : Infinity) : (1 + fraction / 1024) * 2 ** (power - 15);
    values[bits] = bits & 32768 ? -size : size;
  }
  return values;
}

/**
 * @param {Uint16Array} narrow  the bits of float16 numbers
 * @returns {Float32Array}
 */
export function fromHalf(narrow) {
  halfValues ??= makeHalfValues();
  const wide = new Float32Array(narrow.length);
  for (let n = 0; n < wide.length; n++) wide[n] = halfValues[narrow[n]];
  return wide;
}

/**
 * @param {DataView} view  a buffer of a message
 * @param {boolean} half  whether it holds float16, else float32
 * @returns {Float32Array}
 */
export const floats = (view, half) => (half ? fromHalf(copied(view, Uint16Array)) : copied(view, Float32Array));
