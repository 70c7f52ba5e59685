// From a drawing to the model's input, as the data were made: a bitmap of 32x32 that the
// digit fills from top to bottom, of which every pixel of 8x8 counts the ink of 4x4.
"use strict";

spiking.BITMAP = 32;
// Half the width of a stroke, in pixels of the bitmap: of these, the one with which the
// share of ink is nearest to that of the data.
spiking.PENS = [2, 2.4, 2.8, 3.2];
spiking.INK = 0.3;

// Return how points of strokes, lists of [x, y] from 0 to 1, lie in the bitmap: its scale,
// and where its corner is.
spiking.frame = (strokes) => {
  const room = spiking.BITMAP - 2 * spiking.PENS[1], points = strokes.flat();
  const [x, y] = [0, 1].map((axis) => {
    const values = points.map((point) => point[axis]);
    return {low: Math.min(...values), high: Math.max(...values)};
  });
  // Digits are rarely wider than seven of the eight columns; a dot stays a dot.
  const side = Math.max(y.high - y.low, (x.high - x.low) * 8 / 7, 0.2);
  const scale = room / side, half = spiking.BITMAP / 2 / scale;
  return {scale, left: (x.low + x.high) / 2 - half, top: (y.low + y.high) / 2 - half};
};

// Return 64 values from 0 to 255, row by row.
spiking.pixels = (strokes) => {
  if (!strokes.length) return new Float32Array(64);
  const {scale, left, top} = spiking.frame(strokes), {BITMAP, PENS, INK} = spiking;
  const lines = strokes.map((stroke) => stroke.map(
    ([x, y]) => [(x - left) * scale, (y - top) * scale]));
  const away = Float32Array.from({length: BITMAP ** 2}, (_, i) =>
    spiking.distance(lines, i % BITMAP + 0.5, Math.floor(i / BITMAP) + 0.5));
  const share = (pen) => away.filter((x) => x <= pen).length / away.length;
  const off = PENS.map((pen) => Math.abs(share(pen) - INK));
  const pen = PENS[off.indexOf(Math.min(...off))], counts = new Float32Array(64);
  away.forEach((x, i) => {
    counts[(Math.floor(i / BITMAP) >> 2) * 8 + (i % BITMAP >> 2)] += x <= pen;
  });
  return counts.map((count) => Math.round(count * 255 / 16));
};

// Return the distance of a point to the nearest of these lines.
spiking.distance = (lines, x, y) => {
  let least = Infinity;
  for (const line of lines) {
    for (let i = 0; i < line.length; i++) {
      const [x1, y1] = line[i], [x2, y2] = line[i + 1] ?? line[i];
      const dx = x2 - x1, dy = y2 - y1, length = dx * dx + dy * dy;
      const along = length && ((x - x1) * dx + (y - y1) * dy) / length;
      const at = Math.min(1, Math.max(0, along));
      least = Math.min(least, (x - x1 - at * dx) ** 2 + (y - y1 - at * dy) ** 2);
    }
  }
  return Math.sqrt(least);
};
