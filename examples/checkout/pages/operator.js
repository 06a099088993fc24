// The operator page: how the sale stands, second by second.

import { $, price, send } from "/common.js";

// What the chart shows; at first less, and it grows.
const SECONDS = 120;
const FIRST_SECONDS = 20;
// From the bottom of the chart to its top.
const LAYERS = ["confirmed", "paying", "reserved", "inventory"];

const history = new Map(); // by item: its last looks, oldest first
let before = null; // the look before this one

function say(text) {
  $("#message").textContent = text;
}

// ---- one look ----

function show(look) {
  $("#connection").textContent = "";
  showAudit(look.audit, look.auditAgeS);
  look.items.forEach(showItem);
  $("#rate").textContent = before ? Math.round(rate(before, look)) : 0;
  before = look;
  fill("#refusals", look.answers.map(({ name, value }) => [name.replaceAll("_", " "), value]));
  $("#refunds-due").textContent = look.refundsDueCount;
  fill("#refunds", look.refundsDue.map((due) => [due.paymentRef, due.orderRef, price(due.amount, due.currency), due.why.replaceAll("_", " ")]));
  $("#payment-checks").textContent = look.paymentChecksCount;
  fill("#checks", look.paymentChecks.map((check) => [check.orderRef, check.userId, price(check.amount, check.currency), new Date(check.paymentDeadline).toLocaleTimeString()]));
}

// Purchases reserved in a second. Looks are further apart than that after a lost connection.
function rate(earlier, later) {
  const seconds = (new Date(later.serverTime) - new Date(earlier.serverTime)) / 1000;
  const reserved = ({ answers }) => answers.find(({ name }) => name === "reserved")?.value ?? 0;
  // The counter falls when it is reset.
  return seconds > 0 ? Math.max(reserved(later) - reserved(earlier), 0) / seconds : 0;
}

// Without rows no audit has been completed yet.
function showAudit(rows, age) {
  const audit = $("#audit");
  $("#audit-age").textContent = rows ? `Checked ${age} s ago.` : "Not checked yet.";
  if (!rows) return;
  const words = rows.length
    ? "Broken: " + rows.map(({ invariant, detail }) => `${invariant} (${detail})`).join("; ")
    : "All invariants hold.";
  audit.classList.toggle("alarm", rows.length > 0);
  audit.setAttribute("role", rows.length ? "alert" : "status");
  if (audit.textContent !== words) audit.textContent = words;
}

function fill(table, rows) {
  $("tbody", $(table)).replaceChildren(
    ...rows.map((cells) => {
      const row = document.createElement("tr");
      row.append(...cells.map((cell) => Object.assign(document.createElement("td"), { textContent: cell ?? "" })));
      return row;
    }),
  );
}

function showItem(item) {
  let card = $(`#items [data-item="${item.itemId}"]`);
  if (!card) card = addCard(item);
  const state = item.state.replaceAll("_", " ");
  $(".state", card).textContent = item.paused && item.state !== "paused" ? `${state}, paused` : state;
  for (const name of LAYERS) $(`.${name}`, card).textContent = item[name];
  $(".supplied", card).textContent = item.stock;
  $(".pause", card).textContent = item.paused ? "Resume" : "Pause";
  card.dataset.paused = item.paused;
  const looks = history.get(item.itemId);
  looks.push(item);
  if (looks.length > SECONDS) looks.shift();
  draw($(".chart", card), looks);
}

function addCard(item) {
  const card = $("#item-template").content.cloneNode(true).firstElementChild;
  card.dataset.item = item.itemId;
  $(".name", card).textContent = item.name ?? `Item ${item.itemId}`;
  $(".restock-form", card).addEventListener("submit", (event) => {
    event.preventDefault();
    restock(card, item.itemId);
  });
  $(".pause", card).addEventListener("click", () => pause(card, item.itemId));
  for (const name of LAYERS) {
    const area = document.createElementNS("http://www.w3.org/2000/svg", "polygon");
    area.classList.add(`${name}-color`);
    $(".chart", card).append(area);
  }
  history.set(item.itemId, []);
  $("#items").append(card);
  return card;
}

// Areas on top of one another, a look to a unit of width, the present at the right.
function draw(chart, looks) {
  const highest = Math.max(1, ...looks.map((look) => look.stock));
  const width = Math.max(looks.length, FIRST_SECONDS);
  const left = width - looks.length;
  chart.setAttribute("viewBox", `0 0 ${width} 40`);
  let floor = looks.map(() => 0);
  LAYERS.forEach((name, layer) => {
    const roof = looks.map((look, at) => floor[at] + look[name]);
    const y = (height) => 40 - (40 * height) / highest;
    const steps = (heights) => heights.flatMap((height, at) => [`${left + at},${y(height)}`, `${left + at + 1},${y(height)}`]);
    chart.children[layer].setAttribute("points", [...steps(roof), ...steps(floor).reverse()].join(" "));
    floor = roof;
  });
  const last = looks.at(-1);
  chart.setAttribute("aria-label", `Of ${last.stock} units: ${LAYERS.map((name) => `${last[name]} ${name === "inventory" ? "free" : name}`).join(", ")}`);
}

// ---- what operators do ----

// Not idempotent, so one press is one request, and an answer that is lost is said to be.
async function restock(card, itemId) {
  const button = $(".restock", card);
  const delta = Number($(".restock-delta", card).value);
  const reason = $(".restock-reason", card).value;
  button.disabled = true;
  const answer = await send("POST", `/operator/items/${itemId}/restock`, reason ? { delta, reason } : { delta });
  button.disabled = false;
  if (answer.status === 200) say(`Done: ${answer.body.remainingInventory} free of ${answer.body.stock}.`);
  else if (answer.status === 0 || answer.status >= 500) say("It may have been done: look at the stock before you repeat it.");
  else say(answer.body.message);
}

async function pause(card, itemId) {
  const move = card.dataset.paused === "true" ? "resume" : "pause";
  const answer = await send("POST", `/operator/items/${itemId}/${move}`);
  say(answer.status === 200 ? (answer.body.paused ? "Paused." : "Resumed.") : answer.body.message);
}

// ---- session ----

async function open() {
  const { status } = await send("GET", "/operator/session");
  $("#login-form").hidden = status === 200;
  $("#shop").hidden = status !== 200;
  if (status === 200) watch();
  else $("#operator-key").focus();
}

function watch() {
  const events = new EventSource("/operator/events");
  events.addEventListener("shop", (event) => show(JSON.parse(event.data)));
  events.onerror = () => {
    $("#connection").textContent = "Connection lost. Trying again…";
    if (events.readyState === EventSource.CLOSED) setTimeout(open, 2000);
  };
}

$("#login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const answer = await send("POST", "/operator/session", { key: $("#operator-key").value });
  say(answer.status === 200 ? "" : "That is not the key.");
  if (answer.status === 200) open();
});

open();
