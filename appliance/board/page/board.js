// The board in the browser. All text from the network goes through textContent: nothing here can become markup.
"use strict";

const PAGE = 50;
const WORDS = { booted: "booted", booting: "booting", stalled: "stalled", failed: "failed" };
const SIGNS = { done: "\u2713", running: "\u2026", missing: "\u2717", failed: "\u2717", unanswered: "?" };
const STAGES = { dhcp: "DHCP", loader: "loader", module: "modules", configuration: "config", kernel: "kernel", initrd: "initrd", image: "image", answers: "answers" };
const rows = new Map();
const shown = new Map();
let chart = [], health = {}, clock = 0, page = 0, open = null, story = null, due = false;

const at = (id) => document.getElementById(id);

function make(tag, name, text) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
}

function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let step = 0;
  while (bytes >= 1024 && step < units.length - 1) { bytes /= 1024; step += 1; }
  return (step && bytes < 10 ? bytes.toFixed(1) : Math.round(bytes)) + " " + units[step];
}

function span(seconds) {
  if (seconds < 0) seconds = 0;
  if (seconds < 90) return Math.round(seconds) + " s";
  if (seconds < 5400) return Math.round(seconds / 60) + " min";
  return Math.round(seconds / 3600) + " h";
}

const setText = (node, text) => { if (node.textContent !== text) node.textContent = text; };
const inTrouble = (row) => row.trouble !== "" || row.state === "failed" || row.state === "stalled";
const title = (row) => row.name || row.mac || row.address || row.key;

function wanted() {
  const text = at("find").value.trim().toLowerCase(), state = at("state").value, order = at("order").value;
  const fits = (row) =>
    (!state || (state === "trouble" ? inTrouble(row) : row.state === state)) &&
    (!text || [row.name, row.mac, row.address, row.file, row.trouble].some((part) => part.toLowerCase().includes(text)));
  const list = [...rows.values()].filter(fits);
  const recent = (a, b) => b.started - a.started || (a.key < b.key ? -1 : 1);
  const orders = {
    recent,
    name: (a, b) => title(a).localeCompare(title(b)),
    trouble: (a, b) => inTrouble(b) - inTrouble(a) || (b.state === "booting") - (a.state === "booting") || recent(a, b),
  };
  return list.sort(orders[order]);
}

function machine(key) {
  const item = make("li", "machine");
  const line = make("div", "line1");
  line.addEventListener("click", () => toggle(key));
  const who = make("button", "who");
  who.type = "button";
  who.append(make("b"), make("small"));
  const now = make("div", "now");
  const bar = make("progress");
  bar.max = 100;
  now.append(bar, make("span"));
  line.append(who, make("span", "chip"), make("ol", "marks"), now, make("span", "age"));
  item.append(line, make("p", "trouble"));
  return item;
}

function paintMarks(list, marks, stopped) {
  const wantedMarks = JSON.stringify([marks, stopped]);
  if (list.dataset.marks === wantedMarks) return;
  list.dataset.marks = wantedMarks;
  list.replaceChildren(...marks.map(([stage, state, percent]) => {
    const word = stopped && state === "running" ? "stopped" : state;
    const sign = state === "running" && percent >= 0 ? percent + " %" : SIGNS[state] || "";
    const mark = make("li", word === "stopped" ? "failed" : state, STAGES[stage] + " " + sign);
    mark.title = STAGES[stage] + ": " + word;
    return mark;
  }));
}

function paint(item, row) {
  const [line, trouble] = item.children;
  const [who, chip, marks, now, age] = line.children;
  item.className = "machine is-" + row.state;
  setText(who.children[0], title(row));
  setText(who.children[1], [row.mac, row.address].filter((part) => part && part !== title(row)).join("  "));
  chip.className = "chip " + row.state;
  setText(chip, WORDS[row.state] || row.state);
  paintMarks(marks, row.marks, row.state === "stalled");
  const busy = row.state === "booting" && row.percent >= 0 && row.percent < 100;
  now.children[0].hidden = !busy;
  if (busy) { now.children[0].value = row.percent; now.children[0].setAttribute("aria-label", row.file); }
  setText(now.children[1], row.file + (row.rate ? "  " + size(row.rate) + "/s" : ""));
  setText(age, span(clock - row.at) + " ago");
  trouble.hidden = !row.trouble;
  setText(trouble, row.trouble);
  who.setAttribute("aria-expanded", String(open === row.key));
  const told = item.children[2];
  if (open === row.key && story && story.key === row.key) {
    const fresh = painted(story);
    if (told) told.replaceWith(fresh); else item.append(fresh);
  } else if (told) told.remove();
}

function painted(whole) {
  const box = make("div", "story");
  const facts = ["boot " + whole.boot + " since " + new Date(whole.started * 1000).toLocaleTimeString()];
  if (whole.addresses.length) facts.push(whole.addresses.join(", "));
  if (whole.release) facts.push("release " + whole.release);
  box.append(make("p", "quiet", facts.join(" \u00b7 ")));
  if (whole.remedy) box.append(make("p", "", "What mends it: " + whole.remedy));
  const table = make("table"), head = make("tr"), body = make("tbody");
  for (const word of ["", "File", "What", "Size", "Rate", "Agreed", "Sent again"]) {
    const cell = make("th", word === "File" || word === "What" ? "" : "n", word);
    cell.scope = "col";
    head.append(cell);
  }
  for (const step of whole.steps) {
    const line = make("tr");
    const agreed = step.blksize ? step.blksize + " \u00d7 " + (step.windowsize || 1) : step.service === "ftp" ? "FTP" : "";
    const amount = step.size >= 0 && step.state === "running" ? size(step.bytes) + " of " + size(step.size) : step.bytes ? size(step.bytes) : "";
    line.append(
      make("td", "n", "+" + span(step.started - whole.started)), make("td", "", step.file),
      make("td", "", (STAGES[step.stage] || "file") + ": " + step.state + (step.tries > 1 ? ", " + step.tries + " times" : "") + (step.cause ? " (" + step.cause + ")" : "")),
      make("td", "n", amount), make("td", "n", step.rate ? size(step.rate) + "/s" : ""), make("td", "n", agreed),
      make("td", "n", step.retransmits ? String(step.retransmits) : ""));
    body.append(line);
  }
  const top = make("thead");
  top.append(head);
  table.append(top, body);
  box.append(table);
  return box;
}

function paintMachines() {
  const list = wanted();
  const pages = Math.max(1, Math.ceil(list.length / PAGE));
  page = Math.min(page, pages - 1);
  const part = list.slice(page * PAGE, page * PAGE + PAGE);
  const keep = new Set(part.map((row) => row.key));
  for (const [key, item] of shown) if (!keep.has(key)) { item.remove(); shown.delete(key); }
  const holder = at("machines");
  part.forEach((row, place) => {
    let item = shown.get(row.key);
    if (!item) { item = machine(row.key); shown.set(row.key, item); }
    paint(item, row);
    if (holder.children[place] !== item) {
      const had = item.contains(document.activeElement) ? document.activeElement : null;
      holder.insertBefore(item, holder.children[place] || null);
      if (had) had.focus();
    }
  });
  at("none").hidden = list.length > 0;
  setText(at("none"), rows.size ? "No machine fits." : "No machine has asked for anything yet. Start one that boots over the network.");
  at("pager").hidden = pages < 2;
  setText(at("where"), "page " + (page + 1) + " of " + pages + ", " + list.length + " machines");
  at("back").disabled = page === 0;
  at("next").disabled = page >= pages - 1;
}

function paintCounts() {
  const count = { booting: 0, booted: 0, stalled: 0, failed: 0 };
  for (const row of rows.values()) count[row.state] = (count[row.state] || 0) + 1;
  at("counts").replaceChildren(...Object.entries(count).map(([state, many]) => make("li", many ? state : "quiet", many + " " + state)));
}

function paintChart() {
  const most = Math.max(1, ...chart.flat());
  const points = (which) => chart.map((sample, place) =>
    (300 - (chart.length - 1 - place)).toFixed(1) + "," + (78 - (sample[which] / most) * 74).toFixed(1)).join(" ");
  at("line-tftp").setAttribute("points", points(0));
  at("line-ftp").setAttribute("points", points(1));
  const last = chart[chart.length - 1] || [0, 0];
  setText(at("rates"), "now TFTP " + size(last[0]) + "/s, FTP " + size(last[1]) + "/s, most " + size(most === 1 ? 0 : most) + "/s");
}

function paintHealth() {
  const services = Object.entries(health.services || {});
  at("services").replaceChildren(...services.map(([name, state]) => make("li", "chip " + (state === "ok" ? "booted" : "stalled"), name + " " + state)));
  at("problems").replaceChildren(...(health.problems || []).slice(0, 20).map((one) => {
    const item = make("li", one.severity, one.what);
    if (one.remedy) item.append(make("br"), make("span", "quiet", one.remedy));
    return item;
  }));
  const waiting = health.waiting === 1 ? "1 upload waits" : health.waiting + " uploads wait";
  if (health.waiting) at("problems").append(make("li", "", waiting + " to be looked at: appliance incoming list"));
}

function paintAll() {
  due = false;
  paintCounts();
  paintChart();
  paintMachines();
}

function soon() {
  if (!due) { due = true; requestAnimationFrame(paintAll); }
}

async function toggle(key) {
  open = open === key ? null : key;
  story = null;
  if (open) await fetchStory();
  soon();
}

async function fetchStory() {
  const key = open;
  const answer = await fetch("/machine.json?key=" + encodeURIComponent(key)).catch(() => null);
  if (answer && answer.ok && key === open) story = await answer.json();
}

function take(frame) {
  clock = frame.now;
  if (frame.all) { rows.clear(); chart = frame.chart; }
  for (const key of frame.gone) rows.delete(key);
  for (const row of frame.rows) {
    const before = rows.get(row.key);
    if (row.trouble && (!before || before.trouble !== row.trouble)) setText(at("said"), title(row) + ": " + row.trouble);
    rows.set(row.key, row);
    if (row.key === open) fetchStory().then(soon);
  }
  if (frame.sample) { chart.push(frame.sample); if (chart.length > 300) chart.shift(); }
  if (frame.health) { health = frame.health; paintHealth(); }
  soon();
}

function link(text, lost) {
  setText(at("link"), text);
  at("link").className = lost ? "link lost" : "link";
}

function start() {
  const source = new EventSource("/events");
  source.onopen = () => link("live", false);
  source.onmessage = (message) => take(JSON.parse(message.data));
  source.onerror = () => link("connection lost, trying again", true);
  for (const id of ["find", "state", "order"]) at(id).addEventListener("input", () => { page = 0; paintMachines(); });
  at("back").addEventListener("click", () => { page -= 1; paintMachines(); });
  at("next").addEventListener("click", () => { page += 1; paintMachines(); });
}

start();
