// The second panel: a recording runs through the streaming model, frame by frame.
"use strict";

(() => {
  const panel = document.querySelector("#camera"), {view} = spiking;
  const $ = (selector) => panel.querySelector(selector);
  let facts, bars, columns, energy, steps = [], frames = [], now = 0, run = 0;

  const player = new view.Player(show);

  function show(step) {
    now = step;
    bars.show(steps, now);
    columns.show(steps, now);
    energy.show(steps, now);
    const at = steps[now]?.stages.find((stage) => stage.passes);
    $(".frame").replaceChildren(...view.events(frames[now], facts.size[1]));
    $(".over").setAttribute("transform", `scale(${at ? facts.size[1] / at.width : 1})`);
    $(".over").replaceChildren(...(at ? [view.mask(at)] : []));
    if (!steps[now]) return;
    const {logits} = steps[now], best = facts.classes[spiking.best(logits)];
    const sure = spiking.sureness(logits);
    $(".verdict").replaceChildren(
      view.make("b", {}, best), ` ${sure}, after ${now + 1} of ${frames.length} frames`);
  }

  // Every frame is one call; the state goes from each to the next.
  async function play(recording) {
    const mine = ++run;
    player.stop();
    panel.querySelectorAll("[data-recording]").forEach((button) => {
      button.setAttribute("aria-pressed", Number(button.dataset.recording) === recording);
    });
    [frames, steps] = [facts.recordings[recording], []];
    const rest = Object.fromEntries(Object.entries(facts.state).map(
      ([name, {dtype, shape, rest: value}]) => {
        const kind = dtype === "int32" ? Int32Array : Float32Array;
        const size = shape.reduce((product, x) => product * x, 1);
        return [name, {type: dtype, data: new kind(size).fill(value), dims: shape}];
      }));
    const [height, width] = facts.size;
    for (const [i, counts] of frames.entries()) {
      const frame = {
        type: "float32", data: Float32Array.from(counts), dims: [1, height, width, 2],
      };
      const outputs = await spiking.run("stream", {frame}, i ? null : rest);
      if (mine !== run) return;
      steps.push(...spiking.read(outputs, facts, i));
    }
    panel.answer = {recording, logits: steps.at(-1).logits, steps};
    player.play(frames.length);
    const {logits} = steps.at(-1), best = facts.classes[spiking.best(logits)];
    $(".told").textContent = `After ${frames.length} frames the model answers ${best}.`;
  }

  panel.addEventListener("click", ({target}) => {
    if (!facts) return;
    if (target.dataset.recording) play(Number(target.dataset.recording)).catch(fail);
    else if (target.dataset.edit === "play") player.play(frames.length);
  });

  function fail(error) {
    $(".verdict").textContent = `This browser can't run the model: ${error.message}`;
  }

  // Only a reader who comes here loads the second model.
  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    spiking.open("stream").then(() => {
      facts = spiking.facts.stream;
      bars = new view.Bars($(".bars"), facts.classes);
      const {length} = facts.recordings[0];
      columns = new view.Steps($(".steps"), length, "frame", (step) => {
        player.stop();
        show(step);
      });
      energy = new view.Energy(panel, facts, length);
      panel.classList.add("ready");
      return play(3);
    }).catch(fail);
  }, {rootMargin: "200px"}).observe(panel);
})();
