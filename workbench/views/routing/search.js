/** Searching tokens by what they say. Patterns are those of `numbers.py` in this folder. */

export const KINDS = [["any kind of token", ""], ["digits", "/^ ?[0-9]+$/"], ["words", "/[A-Za-z]{2,}/"], ["capital letters", "/^ ?[A-Z]/"], ["punctuation", "/^ ?[!-\\/:-@[-`{-~\u3000-\u303f\uff00-\uffef]+$/"], ["Chinese", "/[\u4e00-\u9fff]/"], ["spaces and new lines", "/^\\s+$/"], ["special", "/^(\\[unused[0-9]+\\]|<(s|/s|unk|pad)>|<\\|[^|]*\\|>:?)$/"]];
// Pieces that are names and not what a token says.
const NAME = /^(\[unused[0-9]+\]|<(s|\/s|unk|pad|id [0-9]+|0x[0-9A-F]{2})>|<\|[^|]*\|>:?)$/;
const BYTE = /^<0x([0-7][0-9A-F])>$/; // that is a character
const ASKED = /\[unused|<[a-z0-9/|]/i;

/** What a token says; null for a special token and for a byte that is no character. */
export function saidBy(piece) {
  const byte = BYTE.exec(piece);
  if (byte) return String.fromCharCode(parseInt(byte[1], 16));
  return NAME.test(piece) ? null : piece;
}
/** A test of pieces by what they say, and by their names if the search asks for one; null for a pattern that is none. */
export function matcher(search) {
  const wanted = search.toLowerCase(), asked = ASKED.test(search);
  let test = (text) => text.toLowerCase().includes(wanted);
  if (search.length > 2 && search.startsWith("/") && search.endsWith("/")) {
    try {
      const pattern = new RegExp(search.slice(1, -1));
      test = (text) => pattern.test(text);
    } catch {
      return null;
    }
  }
  return (piece) => {
    const said = saidBy(piece);
    return (said !== null && test(said)) || (asked && test(piece));
  };
}
