// The first panel: a digit is drawn with mouse, finger or keys, and the model answers.
"use strict";

(() => {
  const panel = document.querySelector("#drawing"), {view} = spiking;
  const $ = (selector) => panel.querySelector(selector);
  const pad = $(".pad"), ink = $(".pad .strokes"), over = $(".pad .over");
  const SIDE = 320, STEP = 1 / 16;

  let strokes = [], example = null, steps = [], pen = null, now = 0;
  let cursor = [0.5, 0.25], isBusy = false, isStale = false, facts, bars, columns, energy;

  const player = new view.Player(show);
  const tell = (text) => { $(".told").textContent = text; };

  // What the model takes: 64 values from 0 to 255.
  const input = () => (example === null ? spiking.pixels(strokes)
    : Float32Array.from(facts.examples[example].flat()));

  function drawInk() {
    const line = (stroke) => `M${[...stroke, stroke.at(-1)].map(
      ([x, y]) => `${(x * SIDE).toFixed(1)} ${(y * SIDE).toFixed(1)}`).join("L")}`;
    ink.setAttribute("d", strokes.map(line).join(""));
    $(".pad .cursor").setAttribute(
      "transform", `translate(${cursor[0] * SIDE} ${cursor[1] * SIDE})`);
    panel.classList.toggle("pen-down", pen === "keys");
    const isEmpty = !strokes.length && example === null;
    panel.classList.toggle("is-empty", isEmpty);
    for (const button of panel.querySelectorAll("[data-edit]")) button.disabled = isEmpty;
    const values = example === null ? [] : facts.examples[example].flat();
    $(".pad .example").replaceChildren(...view.pixels(values, 8));
    panel.querySelectorAll("[data-example]").forEach((button) => {
      button.setAttribute("aria-pressed", Number(button.dataset.example) === example);
    });
  }

  // Where the 8x8 tokens lie on the pad.
  function placeTokens() {
    if (example !== null || !strokes.length) return `scale(${SIDE / 8})`;
    const {scale, left, top} = spiking.frame(strokes);
    return `translate(${left * SIDE} ${top * SIDE}) scale(${SIDE * 4 / scale})`;
  }

  function show(step) {
    now = step;
    bars.show(steps, now);
    columns.show(steps, now);
    const at = steps[now];
    over.setAttribute("transform", placeTokens());
    over.replaceChildren(...(at && !pen ? [view.mask(at.stages.find((x) => x.passes))] : []));
    energy.show(steps, now);
  }

  // The answer to what is drawn now. What is drawn meanwhile is answered next.
  async function ask() {
    drawInk();
    isStale = isBusy;
    if (isBusy) return;
    if (!strokes.length && example === null) {
      steps = [];
      $(".verdict").replaceChildren("Draw a digit");
      $(".seen").replaceChildren();
      return show(0);
    }
    isBusy = true;
    const values = input(), isLive = pen !== null;
    try {
      const outputs = await spiking.run("model", {
        images: {type: "float32", data: values, dims: [1, 8, 8, 1]},
      });
      steps = spiking.read(outputs, facts);
      panel.answer = {pixels: [...values], logits: [...outputs.logits.data], steps};
    } catch (error) {
      return fail(error);
    } finally {
      isBusy = false;
    }
    $(".seen").replaceChildren(...view.pixels(values, 8));
    const {logits} = steps.at(-1), best = facts.classes[spiking.best(logits)];
    const sure = spiking.sureness(logits);
    $(".verdict").replaceChildren(view.make("b", {}, best), ` ${sure}`);
    player.stop();
    if (isStale) return ask();
    if (isLive) return show(steps.length - 1);
    player.play(steps.length);
    tell(`The model answers ${best}, ${sure}.`);
  }

  function fail(error) {
    $(".verdict").textContent = `This browser can't run the model: ${error.message}`;
  }

  function clear() {
    [strokes, example, pen] = [[], null, null];
    ask();
  }

  function choose(digit) {
    [strokes, example, pen] = [[], digit, null];
    ask();
  }

  function begin(point) {
    if (example !== null) [strokes, example] = [[], null];
    strokes.push([point]);
    player.stop();
    tell("");
  }

  function lift() {
    pen = null;
    ask();
  }

  function undo() {
    if (example !== null) return clear();
    strokes.pop();
    pen = null;
    ask();
  }

  // Mouse, finger or pen.
  const place = (event) => {
    const box = pad.getBoundingClientRect(), within = (x) => Math.min(1, Math.max(0, x));
    return [within((event.clientX - box.left) / box.width),
      within((event.clientY - box.top) / box.height)];
  };
  pad.addEventListener("pointerdown", (event) => {
    if (!facts || event.button || pen === "pointer") return;
    pad.setPointerCapture(event.pointerId);
    pen = "pointer";
    begin(place(event));
    ask();
  });
  pad.addEventListener("pointermove", (event) => {
    if (pen !== "pointer") return;
    strokes.at(-1).push(...(event.getCoalescedEvents?.() ?? []).map(place), place(event));
    ask();
  });
  for (const name of ["pointerup", "pointercancel"]) {
    pad.addEventListener(name, () => { if (pen === "pointer") lift(); });
  }

  // Keys: arrows move the pen, the space bar puts it down and lifts it.
  const MOVES = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
  const KEYS = {Escape: clear, Delete: clear, Backspace: undo};
  pad.addEventListener("keydown", (event) => {
    if (!facts || event.ctrlKey || event.metaKey || event.altKey) return;
    const move = MOVES[event.key];
    if (move) {
      cursor = cursor.map((x, i) => Math.min(1, Math.max(0, x + move[i] * STEP)));
      if (pen === "keys") strokes.at(-1).push([...cursor]);
      const [column, row] = cursor.map((x) => Math.round(x / STEP));
      tell(`row ${row}, column ${column}, pen ${pen ? "down" : "up"}`);
      if (pen === "keys") ask();
      else drawInk();
    } else if (event.key === " " || event.key === "Enter") {
      if (pen === "keys") lift();
      else {
        pen = "keys";
        begin([...cursor]);
        ask();
        tell("pen down");
      }
    } else if (/^[0-9]$/.test(event.key)) choose(Number(event.key));
    else if (KEYS[event.key]) KEYS[event.key]();
    else return;
    event.preventDefault();
  });
  pad.addEventListener("blur", () => { if (pen === "keys") lift(); });

  panel.addEventListener("click", ({target}) => {
    if (!facts) return;
    if (target.dataset.example) choose(Number(target.dataset.example));
    else if (target.dataset.edit === "clear") clear();
    else if (target.dataset.edit === "undo") undo();
    else if (target.dataset.edit === "play") player.play(steps.length);
  });

  spiking.open("model").then(() => {
    facts = spiking.facts.model;
    bars = new view.Bars($(".bars"), facts.classes);
    columns = new view.Steps($(".steps"), facts.steps, "t =", (step) => {
      player.stop();
      show(step);
    });
    energy = new view.Energy(panel, facts);
    panel.classList.add("ready");
    choose(7);
  }).catch(fail);
})();
