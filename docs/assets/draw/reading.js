// From the outputs of a model to what a reader sees of each time step.
"use strict";

// Return a list with one entry per time step: the logits so far; the microjoules of the
// step; and of every stage its size, how much each token fires (mean over its channels),
// the share of heads in which each token passes the attention, and all its spikes.
spiking.read = (outputs, facts, before = 0) => {
  const features = Object.keys(outputs).filter((name) => name.startsWith("features_"));
  const [, steps] = outputs.input_means.dims;
  const rows = (name, step) => {
    const {data, dims} = outputs[name], size = data.length / dims[1];
    return data.subarray(step * size, (step + 1) * size);
  };
  const byToken = (name, step) => {
    const channels = outputs[name].dims.at(-1), values = rows(name, step);
    return Array.from({length: values.length / channels}, (_, token) => {
      let sum = 0;
      for (let c = 0; c < channels; c++) sum += values[token * channels + c];
      return sum / channels;
    });
  };
  const sums = new Array(facts.classes.length).fill(0);
  return Array.from({length: steps}, (_, step) => {
    let logits = [...outputs.logits.data];
    if (outputs.logits_of_steps) {
      rows("logits_of_steps", step).forEach((x, i) => { sums[i] += x; });
      logits = sums.map((x) => x / (step + 1));
    }
    const stages = features.sort().map((name) => {
      const stage = name.slice("features_".length);
      const mask = Object.keys(outputs).findLast((x) => x.startsWith(`mask_${stage}_`));
      const [, , height, width, channels] = outputs[name].dims;
      const rates = byToken(name, step);
      return {
        name: stage, height, width, rates,
        passes: mask && outputs[mask].dims.length === 5 ? byToken(mask, step) : null,
        spikes: Math.round(rates.reduce((sum, x) => sum + x, 0) * channels),
      };
    });
    const means = rows("input_means", step);
    return {logits, stages, microjoules: spiking.energy(means, facts, before + step)};
  });
};

// Microjoules of one time step.
spiking.energy = (means, {energy, steps}, step) => {
  let picojoules = 0;
  energy.operations.forEach(({macs, accumulates}, i) => {
    picojoules += accumulates * means[i] / steps * energy.accumulate_pj;
    picojoules += macs[step] * energy.mac_pj;
  });
  return picojoules / 1e6;
};

spiking.best = (logits) => logits.indexOf(Math.max(...logits));

// The probability of the best class, in words.
spiking.sureness = (logits) => {
  const most = Math.max(...logits);
  const percent = 100 / logits.reduce((sum, x) => sum + Math.exp(x - most), 0);
  return percent > 99 ? "over 99 % sure" : `${percent.toFixed(0)} % sure`;
};
