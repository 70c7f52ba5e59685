// Runs the exported models in a worker: the page never waits for an answer. What it runs
// comes as scripts, because a page that is opened from a disk may not fetch files.
"use strict";

window.spiking = (() => {
  const folder = new URL(".", document.currentScript.src);
  const kept = {}, loads = {}, waiting = new Map();
  let worker = null, calls = 0;

  // All that the worker runs, beside the runtime: it gets this text and shares nothing.
  function work() {
    const sessions = {};
    let state = {};

    const tensors = (given) => Object.fromEntries(Object.entries(given).map(
      ([name, {type, data, dims}]) => [name, new ort.Tensor(type, data, dims)]));

    const tasks = {
      prepare({loader, wasm}) {
        const blob = new Blob([loader], {type: "text/javascript"});
        ort.env.wasm.wasmPaths = {mjs: URL.createObjectURL(blob)};
        ort.env.wasm.wasmBinary = wasm;
        ort.env.wasm.numThreads = 1;
      },
      async open({name, model}) {
        // Optimized, these graphs open three times slower and run no faster.
        sessions[name] = await ort.InferenceSession.create(
          new Uint8Array(model), {graphOptimizationLevel: "disabled"});
      },
      // With a `rest` the state begins there; else it is that of the call before.
      async run({name, feeds, rest}) {
        if (rest) state = tensors(rest);
        const isStream = sessions[name].inputNames.length > 1;
        const found = await sessions[name].run({...tensors(feeds), ...(isStream && state)});
        const outputs = {};
        for (const [key, {type, data, dims}] of Object.entries(found)) {
          if (key.startsWith("next_")) state[key.slice(5)] = found[key];
          else outputs[key] = {type, data, dims};
        }
        return outputs;
      },
    };

    // One after the other: a stream's state belongs to the call before.
    let last = Promise.resolve();
    onmessage = ({data: {id, task, given}}) => {
      last = last.then(() => tasks[task](given)).then(
        (found) => postMessage({id, found}),
        (error) => postMessage({id, error: String(error)}));
    };
  }

  function call(task, given) {
    return new Promise((resolve, reject) => {
      waiting.set(++calls, {resolve, reject});
      worker.postMessage({id: calls, task, given});
    });
  }

  function script(name) {
    loads[name] ??= new Promise((resolve, reject) => {
      const element = document.createElement("script");
      element.src = new URL(`${name}.js`, folder);
      element.onload = resolve;
      element.onerror = () => reject(new Error(`${name}.js is missing`));
      document.head.append(element);
    });
    return loads[name];
  }

  async function unpacked(name) {
    await script(name);
    const bytes = await fetch(`data:application/gzip;base64,${kept[name]}`);
    delete kept[name];
    return new Response(bytes.body.pipeThrough(new DecompressionStream("gzip")));
  }

  async function prepare() {
    const [runtime, loader, wasm] = await Promise.all([
      unpacked("runtime").then((x) => x.text()),
      unpacked("loader").then((x) => x.text()),
      unpacked("wasm").then((x) => x.arrayBuffer()),
    ]);
    const text = [runtime, `\n(${work})();\n`];
    worker = new Worker(URL.createObjectURL(new Blob(text, {type: "text/javascript"})));
    worker.onmessage = ({data: {id, found, error}}) => {
      const {resolve, reject} = waiting.get(id);
      waiting.delete(id);
      if (error) reject(new Error(error));
      else resolve(found);
    };
    await call("prepare", {loader, wasm});
  }

  const opened = {};
  let prepared = null;

  // Open a model, once. Its facts are then in `spiking.facts`.
  function open(name) {
    opened[name] ??= (async () => {
      prepared ??= prepare();
      const [model] = await Promise.all([
        unpacked(name).then((x) => x.arrayBuffer()), script("facts"), prepared]);
      await call("open", {name, model});
    })();
    return opened[name];
  }

  return {
    keep: (name, text) => { kept[name] = text; },
    open,
    run: (name, feeds, rest) => call("run", {name, feeds, rest}),
  };
})();
