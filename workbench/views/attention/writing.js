/** Shares and pieces of text as the view writes them. */

export const NO_DIFFERENCE = "not compared: the other trace has different tokens";

/** A share in percent: the smaller it is, the more digits follow the point. */
export const percent = (share) => {
  if (!Number.isFinite(share)) return "–";
  const size = Math.abs(100 * share);
  return `${(100 * share).toFixed(size === 0 || size >= 9.95 ? 1 : size >= 0.0995 ? 2 : 4)} %`;
};
export const signed = (share) => (share > 0 ? `+${percent(share)}` : percent(share));
/** A token's piece with its spaces and new lines seen. */
export const shownPiece = (piece) => (piece === "<0x0A>" ? "⏎" : piece.replaceAll(" ", "␣").replaceAll("\n", "⏎"));
