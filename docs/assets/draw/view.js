// The pictures of both panels: tokens, event frames, the bars of the logits, and steps.
"use strict";

spiking.view = (() => {
  const number = new Intl.NumberFormat("en");
  const digits = {minimumFractionDigits: 1, maximumFractionDigits: 1};
  const signed = new Intl.NumberFormat("en", {...digits, signDisplay: "negative"});
  const logits = {format: (x) => signed.format(x).replace("-", "\u2212")};

  function make(tag, attributes = {}, ...children) {
    const isSvg = ["svg", "g", "path", "rect", "circle"].includes(tag);
    const element = isSvg ? document.createElementNS("http://www.w3.org/2000/svg", tag)
      : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  // Squares of ink; values from 0 to 255.
  function pixels(values, width) {
    return Array.from(values, (value, i) => value && make("rect", {
      class: "ink", x: i % width, y: Math.floor(i / width), width: 1, height: 1,
      "fill-opacity": (value / 255).toFixed(2),
    })).filter(Boolean);
  }

  // Dots: the larger, the more a token fires; their colour says whether it passes.
  function tokens({rates, passes, width}, most) {
    return rates.map((rate, i) => rate > 0.004 && make("circle", {
      class: !passes ? "all" : passes[i] >= 0.5 ? "on" : "off",
      cx: i % width + 0.5, cy: Math.floor(i / width) + 0.5,
      r: (0.47 * Math.sqrt(rate / most)).toFixed(3),
    })).filter(Boolean);
  }

  // Squares over the tokens that pass.
  function mask({passes, width}) {
    const cells = passes.flatMap((share, i) => share >= 0.5
      ? [`M${i % width + 0.06} ${Math.floor(i / width) + 0.06}h.88v.88h-.88z`] : []);
    return make("path", {class: "passes", d: cells.join("")});
  }

  // Events of one frame: counts (height, width, 2), OFF before ON.
  function events(counts, width) {
    const cells = ["", ""];
    for (let i = 0; i < counts.length; i++) {
      const pixel = i >> 1;
      if (counts[i] && counts[i] >= counts[i ^ 1]) {
        cells[i & 1] += `M${pixel % width} ${Math.floor(pixel / width)}h1v1h-1z`;
      }
    }
    return [make("path", {class: "off", d: cells[0]}), make("path", {class: "on", d: cells[1]})];
  }

  // A bar for each class, which grows from step to step; marks stay where it has been.
  class Bars {
    constructor(list, classes) {
      this.rows = classes.map((name) => {
        const bar = make("i"), value = make("span"), marks = make("s");
        const row = make("li", {}, make("b", {}, name), make("em", {}, marks, bar), value);
        list.append(row);
        return {row, bar, value, marks};
      });
    }

    show(steps, now) {
      const all = steps.flatMap((step) => step.logits);
      const low = Math.min(0, ...all), high = Math.max(1, ...all);
      const place = (x) => 100 * (x - low) / (high - low);
      const leads = steps[now] && spiking.best(steps[now].logits);
      this.rows.forEach(({row, bar, value, marks}, i) => {
        const logit = steps[now] ? steps[now].logits[i] : 0;
        row.classList.toggle("leads", i === leads);
        bar.style.left = `${place(Math.min(0, logit))}%`;
        bar.style.width = `${place(Math.max(0, logit)) - place(Math.min(0, logit))}%`;
        marks.replaceChildren(...steps.slice(0, now).map((step) => {
          const mark = make("u");
          mark.style.left = `${place(step.logits[i])}%`;
          return mark;
        }));
        value.textContent = steps[now] ? logits.format(logit) : "";
      });
    }
  }

  // One column per step, each with a button, a picture of every stage and its numbers.
  class Steps {
    constructor(list, count, name, choose) {
      this.columns = Array.from({length: count}, (_, i) => {
        const button = make("button", {type: "button"}, `${name} ${i + 1}`);
        button.addEventListener("click", () => choose(i));
        const first = make("svg", {viewBox: "0 0 8 8", "aria-hidden": "true"});
        const second = make("svg", {viewBox: "0 0 4 4", "aria-hidden": "true"});
        const told = make("p");
        const column = make("li", {}, button, first, second, told);
        list.append(column);
        return {column, button, pictures: [first, second], told};
      });
    }

    show(steps, now) {
      const most = [0, 1].map((stage) => Math.max(
        1e-6, ...steps.flatMap((step) => step.stages[stage].rates)));
      this.columns.forEach(({column, button, pictures, told}, i) => {
        const step = steps[i];
        column.classList.toggle("now", i === now);
        column.classList.toggle("later", i > now);
        button.setAttribute("aria-pressed", i === now);
        button.disabled = !step;
        pictures.forEach((picture, stage) => {
          if (!step) return picture.replaceChildren();
          const {height, width} = step.stages[stage];
          picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
          picture.replaceChildren(...tokens(step.stages[stage], most[stage]));
        });
        told.replaceChildren(...(step ? describe(step) : []));
      });
    }
  }

  function describe({stages}) {
    const spikes = stages.reduce((sum, stage) => sum + stage.spikes, 0);
    const {passes} = stages.find((stage) => stage.passes);
    const count = passes.filter((share) => share >= 0.5).length;
    return [`${number.format(spikes)} spikes`, make("br"), `${count} of ${passes.length} pass`];
  }

  // What an answer has cost so far, beside the same layers without spikes. These run once
  // for an image (`most` 1), and once for each frame of a recording.
  class Energy {
    constructor(panel, {energy}, most = 1) {
      Object.assign(this, {twin: energy.twin_mj * 1000, most});
      this.found = Object.fromEntries(["spent", "whole", "microjoules", "twin"].map(
        (name) => [name, panel.querySelector(`.energy .${name}`)]));
    }

    show(steps, now) {
      const {spent, whole, microjoules, twin} = this.found;
      const sum = steps.slice(0, now + 1).reduce((all, x) => all + x.microjoules, 0);
      const without = this.twin * Math.min(now + 1, this.most);
      spent.style.width = `${100 * sum / (this.twin * this.most)}%`;
      whole.style.width = `${100 * without / (this.twin * this.most)}%`;
      microjoules.textContent = steps[now] ? `${sum.toFixed(2)} µJ` : "";
      twin.textContent = `${without.toFixed(1)} µJ`;
    }
  }

  // Show one step after the other. Readers who prefer no motion get the last at once.
  class Player {
    constructor(show, pause = 550) {
      Object.assign(this, {show, pause, timer: null});
    }

    play(count) {
      this.stop();
      if (matchMedia("(prefers-reduced-motion: reduce)").matches) return this.show(count - 1);
      const next = (i) => {
        this.show(i);
        if (i + 1 < count) this.timer = setTimeout(next, this.pause, i + 1);
      };
      next(0);
    }

    stop() {
      clearTimeout(this.timer);
    }
  }

  return {make, pixels, tokens, mask, events, Bars, Steps, Energy, Player, number};
})();
