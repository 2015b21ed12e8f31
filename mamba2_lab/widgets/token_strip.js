// The page's side of TokenStrip: one element for each token, one set of listeners for all.

const MOST = 4000; // elements at once; what comes before them is left out, and the page stays quick however long the text
const PATIENCE = 500; // milliseconds until the page asks again for what it has missed

function render({ model, el }) {
  const list = document.createElement("div");
  list.className = "token-strip";
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-orientation", "horizontal");
  const lead = document.createElement("span");
  lead.className = "token-strip-lead";
  el.append(list, scale(model));

  let first = 0; // index of the first token that has an element
  let count = 0; // of all tokens
  let edition = null; // of the text that is shown
  let chosen = null; // the element of the selected token
  let stop = null; // the element that the Tab key reaches
  let asked = -Infinity; // when tokens that were missed were asked for, in milliseconds

  const chipAt = (index) => list.children[index - first + 1];

  function chip(text, value, index) {
    const span = document.createElement("span");
    span.setAttribute("role", "option");
    span.setAttribute("aria-selected", "false");
    span.tabIndex = -1;
    paint(span, text, value, index);
    if (text === "") span.className = "token-strip-empty";
    text.split("\n").forEach((line, number) => {
      if (number > 0) span.append(lineBreak(), "\n");
      span.append(line);
    });
    return span;
  }

  function paint(span, text, value, index) {
    const said = value === null ? "" : `, ${model.get("label")} ${value.toPrecision(2)}`;
    span.setAttribute("aria-label", `token ${index}, '${named(text)}'${said}`);
    span.title = `${index}: '${named(text)}'${said}`;
    span.style.backgroundColor = value === null ? "" : colour(model, value);
  }

  function append(tokens, values) {
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 30;
    const start = Math.max(0, tokens.length - MOST);
    const chips = document.createDocumentFragment();
    for (let i = start; i < tokens.length; i++) chips.append(chip(tokens[i], values[i], count + i));
    list.append(chips);
    count += tokens.length;
    const surplus = Math.max(0, list.children.length - 1 - MOST);
    for (let i = 0; i < surplus; i++) list.children[1].remove();
    first = count - (list.children.length - 1);
    if (first > 0) lead.textContent = `(${first} ${first === 1 ? "token" : "tokens"} before)\n`;
    if (stop === null || !stop.isConnected) makeStop(list.children[1]);
    if (atEnd) list.scrollTop = list.scrollHeight; // follow the text, unless the reader has scrolled away
  }

  function rewrite() {
    count = first = 0;
    chosen = stop = null;
    asked = -Infinity;
    edition = model.get("edition");
    lead.textContent = model.get("lead");
    list.replaceChildren(lead);
    list.setAttribute("aria-label", `text, coloured by ${model.get("label")}`);
    append(model.get("tokens"), model.get("values"));
    if (lead.textContent !== "") list.scrollTop = list.scrollHeight; // what follows a prompt is looked at, not the prompt
    select();
  }

  function makeStop(element) {
    if (stop) stop.tabIndex = -1;
    stop = element ?? null;
    if (stop) stop.tabIndex = 0;
  }

  function select() {
    chosen?.setAttribute("aria-selected", "false");
    const index = model.get("selected");
    chosen = index === null || index < first ? null : (chipAt(index) ?? null);
    if (!chosen) return;
    chosen.setAttribute("aria-selected", "true");
    makeStop(chosen);
  }

  function choose(element) {
    model.set("selected", first + [...list.children].indexOf(element) - 1);
    model.save_changes();
    element.focus();
  }

  function neighbour(element, key) {
    if (key === "ArrowRight") return element.nextElementSibling;
    if (key === "ArrowLeft") return element.previousElementSibling;
    if (key === "Home") return list.children[1];
    if (key === "End") return list.lastElementChild;
    return onNextLine(element, key === "ArrowDown" ? "nextElementSibling" : "previousElementSibling");
  }

  const onClick = (event) => {
    const element = event.target.closest?.('[role="option"]');
    if (element) choose(element);
  };
  const onKey = (event) => {
    const element = event.target.closest?.('[role="option"]');
    const keys = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "Enter", " "];
    if (!element || !keys.includes(event.key) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation(); // or JupyterLab would walk to the next cell
    const next = ["Enter", " "].includes(event.key) ? element : neighbour(element, event.key);
    if (next?.getAttribute("role") === "option") choose(next);
  };
  const onMessage = (message) => {
    if (message.kind !== "append" || message.at < count) return;
    if (message.at > count) return ask();
    asked = -Infinity;
    append(message.tokens, message.values);
  };
  // A page that is opened in the middle of a stream knows the tokens that were there when it began.
  // While it is being opened, a question or an answer may get lost: then it asks again.
  function ask() {
    if (performance.now() - asked < PATIENCE) return;
    asked = performance.now();
    model.send({ kind: "rest", at: count });
  }
  const onTokens = () => {
    if (model.get("tokens").length !== count) rewrite(); // else they are the ones that came one by one
  };

  const onValues = () => {
    const tokens = model.get("tokens");
    const values = model.get("values");
    if (model.get("edition") !== edition || values.length !== count) return; // all is about to be written anew
    for (let i = first; i < count; i++) paint(chipAt(i), tokens[i], values[i], i);
  };

  list.addEventListener("click", onClick);
  list.addEventListener("keydown", onKey);
  model.on("msg:custom", onMessage);
  model.on("change:edition", rewrite);
  model.on("change:tokens", onTokens);
  model.on("change:values", onValues);
  model.on("change:selected", select);
  rewrite();
  ask();
  return () => {
    model.off("msg:custom", onMessage);
    model.off("change:edition", rewrite);
    model.off("change:tokens", onTokens);
    model.off("change:values", onValues);
    model.off("change:selected", select);
  };
}

function colour(model, value) {
  const shades = model.get("shades");
  const low = model.get("low");
  const position = Math.max(0, Math.min(1, (value - low) / (1 - low)));
  return shades[Math.floor(position * (shades.length - 1) + 0.5)];
}

// What the colours mean, below the text.
function scale(model) {
  const line = document.createElement("div");
  line.className = "token-strip-scale";
  const bar = document.createElement("i");
  bar.style.background = `linear-gradient(to right, ${model.get("shades").join(", ")})`;
  line.append(String(model.get("low")), bar, `1 ${model.get("label")}`);
  return line;
}

function lineBreak() {
  const mark = document.createElement("span");
  mark.className = "token-strip-break";
  mark.setAttribute("aria-hidden", "true");
  mark.textContent = "↵";
  return mark;
}

// Blanks have names where a token is spoken of.
function named(text) {
  if (text === "") return "no text";
  if (text.trim() !== "") return text.replaceAll("\n", "↵").replaceAll("\t", "→");
  return text.replaceAll(" ", "␣").replaceAll("\n", "↵").replaceAll("\t", "→");
}

// The element above or below: on the nearest other line, the one closest to where this one stands.
function onNextLine(element, next) {
  const top = element.offsetTop;
  const left = element.offsetLeft;
  let other = element[next];
  while (other && other.offsetTop === top) other = other[next];
  let best = other;
  for (; other && other.offsetTop === best.offsetTop; other = other[next]) {
    if (Math.abs(other.offsetLeft - left) < Math.abs(best.offsetLeft - left)) best = other;
  }
  return best;
}

export default { render };
