"use strict";

const HISTORY = 96; // characters whose changes stay in sight
const LABELS = { ready: "Start", writing: "Pause", paused: "Resume", done: "Write again" };
const query = new URLSearchParams(location.search);
const length = Number(query.get("length")) || 3000; // characters to write
const $ = (id) => document.getElementById(id);

let ort, session, facts, characters, gates;
let writing; // the text at work: ids of the prompt, seed, states, characters read, latest logits
let looping = false;

// As `sample` of keras_hypernets.models.sequences draws on TensorFlow: the same seed gives the
// same text there.
function draw(logits, temperature, seed, position) {
  const key = mixed(mixed(seed) ^ position);
  const scores = Array.from(logits, (logit, n) => {
    const uniform = ((mixed(key + n) >>> 9) + 0.5) * 2 ** -23;
    return logit - temperature * Math.log(-Math.log(uniform));
  });
  return scores.indexOf(Math.max(...scores));
}

function mixed(bits) {
  for (const [shift, factor] of [[16, 0x7feb352d], [15, 0x846ca68b], [16, 1]]) {
    bits = Math.imul(bits ^ (bits >>> shift), factor);
  }
  return bits;
}

async function advance(text) {
  const written = text.read - text.prompt.length;
  const id = written < 0
    ? text.prompt[text.read]
    : draw(text.logits, $("temperature").valueAsNumber, text.seed, written);
  const ids = new ort.Tensor("int32", [id], [1]);
  const found = await session.run({ ids, ...text.states });
  const [logits, changes, ...states] = session.outputNames.map((name) => found[name]);
  text.logits = logits.data;
  Object.keys(facts.states).forEach((name, n) => (text.states[name] = states[n]));
  text.read += 1;
  if (text !== writing) return; // restarted meanwhile
  const first = text.read === 1; // nothing has changed yet
  show(characters[id], gates.map((gate, n) => (first ? 0 : changes.data[n])), written < 0);
  if (written + 1 === length) enter("done");
}

function show(character, changes, ofPrompt) {
  const shares = gates.map((gate, n) => {
    gate.largest = Math.max(gate.largest, changes[n]);
    const share = changes[n] / (gate.largest || 1);
    gate.history = [...gate.history, share].slice(-HISTORY);
    gate.path.setAttribute("d", gate.history.map((h, x) => `M${x} 1v${-h}h.75v${h}z`).join(""));
    gate.bar.style.width = `${100 * share}%`;
    gate.meter.setAttribute("aria-valuenow", share.toFixed(2));
    gate.value.textContent = changes[n].toFixed(1);
    return share;
  });
  const span = document.createElement("span");
  span.textContent = character;
  span.title = gates.map((gate, n) => `${gate.name}: ${changes[n].toFixed(3)}`).join("\n");
  span.className = ofPrompt ? "prompt" : "";
  span.style.setProperty("--change", (shares.reduce((a, b) => a + b) / shares.length).toFixed(3));
  $("text").append(span);
}

function start() {
  const prompt = [...$("prompt").value];
  const unknown = new Set(prompt.filter((character) => !characters.includes(character)));
  $("prompt").setAttribute("aria-invalid", unknown.size > 0);
  $("message").textContent = "";
  if (unknown.size) {
    $("message").textContent = `The network does not know ${[...unknown].join(" ")}`;
    return;
  }
  const zeros = (size) => new ort.Tensor("float32", new Float32Array(size), [1, size]);
  const states = Object.entries(facts.states).map(([name, size]) => [name, zeros(size)]);
  writing = {
    prompt: prompt.map((character) => characters.indexOf(character)),
    seed: $("seed").valueAsNumber,
    states: Object.fromEntries(states),
    read: 0,
  };
  $("text").replaceChildren();
  gates.forEach((gate) => (gate.history = []));
  enter("writing");
}

async function enter(state) {
  document.body.dataset.state = state;
  $("toggle").textContent = LABELS[state];
  if (looping) return; // the session runs one step at a time
  looping = true;
  try {
    while (document.body.dataset.state === "writing") {
      const due = performance.now() + 1000 / $("speed").valueAsNumber;
      await advance(writing);
      await new Promise((resolve) => setTimeout(resolve, due - performance.now()));
    }
  } catch (error) {
    fail(error);
  }
  looping = false;
}

function toggle() {
  const state = document.body.dataset.state;
  if (state === "writing") enter("paused");
  else if (state === "paused") enter("writing");
  else $("form").requestSubmit();
}

function showSettings() {
  const [prompt, temperature, speed, seed] =
    ["prompt", "temperature", "speed", "seed"].map((name) => $(name).value);
  $("temperature-value").textContent = temperature;
  $("speed-value").textContent = `${speed} / s`;
  $("arguments").textContent =
    `${JSON.stringify(prompt)}, ${length}, temperature=${temperature}, seed=${seed}`;
}

function addGate(name, n) {
  const template = $("gates").querySelector("template");
  const gate = template.content.firstElementChild.cloneNode(true);
  const [label, value, meter, history] = gate.children;
  label.textContent = name;
  meter.setAttribute("aria-label", name);
  $("gates").append(gate);
  const parts = { value, meter, bar: meter.firstChild, path: history.firstChild };
  return { name, history: [], largest: facts.largest[n], ...parts };
}

async function load() {
  if (location.protocol === "file:") throw new Error("open it from a server, not as a file.");
  if (typeof WebAssembly !== "object") throw new Error("this browser has no WebAssembly.");
  ort = await import("./ort.wasm.bundle.min.mjs");
  ort.env.wasm.numThreads = 1; // more need headers that many servers do not send
  session = await ort.InferenceSession.create("model.onnx");
  facts = await (await fetch("model.json")).json();
  characters = [...facts.vocabulary];
  gates = facts.gates.map(addGate);
  const weights = `${facts.parameters.toLocaleString("en")} weights`;
  $("about").textContent = `${[weights, facts.about].filter(Boolean).join(", ")}.`;
  for (const name of ["prompt", "temperature", "speed", "seed"]) {
    $(name).value = query.get(name) ?? facts[name] ?? $(name).value;
  }
  $("controls").disabled = false;
  $("message").textContent = "";
  $("form").oninput = showSettings;
  $("form").onsubmit = (event) => (event.preventDefault(), start());
  $("next").onclick = () => ($("seed").stepUp(), showSettings(), $("form").requestSubmit());
  $("toggle").onclick = toggle;
  showSettings();
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) enter("ready");
  else start();
}

function fail(error) {
  document.body.dataset.state = "failed";
  $("message").textContent = `The network cannot run here: ${error.message}`;
}

load().catch(fail);
