// The shop page: what is on sale, live, and one's own orders.

import { $, price, send } from "/common.js";

const LONGEST_DELAY_MS = 5000;

// What the server's refusals mean, in plain words.
const REFUSALS = {
  out_of_stock: () => "Sold out. If somebody's payment fails, a unit comes back: keep this page open.",
  user_limit_reached: ({ maxPerUser }) => `You have reached the limit of ${maxPerUser} for each customer.`,
  sale_not_started: ({ startsAt }) => `The sale starts at ${time(startsAt)}.`,
  sale_ended: () => "The sale is over.",
  sale_paused: () => "The sale is paused. Try again a little later.",
  card_declined: () => "Your card was declined. You were not charged. Try another card.",
  item_not_found: () => "This item does not exist.",
  not_for_sale: () => "This item has no price yet.",
  order_cancelled: () => "The order was cancelled. If you were charged, you get the money back.",
  order_expired: () => "Your reservation ran out. Buy again if there are units left.",
  order_refunded: () => "This order was refunded. Buy again if there are units left.",
  already_confirmed: () => "Too late to cancel: it is paid.",
  idempotency_key_reused: () => "That click was used already. Press Buy again.",
};

let orders = [];
let clockError = 0; // what the server's clock is ahead of ours, in ms
let items = [];
let buying = false;

const now = () => Date.now() + clockError;
const time = (text) => new Date(text).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function say(text) {
  const message = $("#message");
  message.textContent = text;
  message.hidden = !text;
}

// Leads to the message whoever is still at the button that was pressed, which is disabled now.
// Who went elsewhere meanwhile stays there.
function sayHere(text) {
  say(text);
  const active = document.activeElement;
  if (active === document.body || active.disabled) $("#message").focus();
}

// ---- items ----

function showItems() {
  const list = $("#items");
  for (const item of items) {
    let card = $(`[data-item="${item.itemId}"]`, list);
    if (!card) {
      card = $("#item-template").content.cloneNode(true).firstElementChild;
      card.dataset.item = item.itemId;
      $(".name", card).textContent = item.name ?? `Item ${item.itemId}`;
      $(".buy", card).setAttribute("aria-label", `Buy ${item.name ?? `item ${item.itemId}`}`);
      $(".buy", card).addEventListener("click", () => buy(item.itemId));
      list.append(card);
    }
    showItem(card, item);
  }
}

function showItem(card, item) {
  $(".price", card).textContent = price(item.unitPrice, item.currency);
  const stock = item.inventory > 0 ? `${item.inventory} of ${item.stock} left` : "Sold out";
  if ($(".stock", card).textContent !== stock) $(".stock", card).textContent = stock;
  const bar = $(".bar", card);
  bar.max = Math.max(item.stock, 1);
  bar.value = item.inventory;
  showCountdown(card, item);
}

// Also run by a timer: time passes without news from the server.
function showCountdown(card, item) {
  const countdown = $(".countdown", card);
  const left = item.startsAt ? new Date(item.startsAt) - now() : 0;
  const words = left > 0 ? `Starts in ${clock(left)}` : { paused: "Paused", ended: "The sale is over" }[item.state] ?? "";
  if (countdown.textContent !== words) countdown.textContent = words;
  countdown.hidden = !words;
  const open = left <= 0 && !["paused", "ended"].includes(item.state);
  $(".buy", card).disabled = buying || !open;
}

// For screen readers: the stock in words, not at every change.
function tellNews() {
  const news = items.map((item) => `${item.name ?? `Item ${item.itemId}`}: ${item.inventory > 0 ? `${item.inventory} left` : "sold out"}`).join(". ");
  if ($("#news").textContent !== news) $("#news").textContent = news;
}

function clock(ms) {
  const s = Math.ceil(ms / 1000);
  const two = (n) => String(n).padStart(2, "0");
  return (s >= 3600 ? `${Math.floor(s / 3600)}:` : "") + `${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
}

function refreshButtons() {
  for (const item of items) {
    const card = $(`#items [data-item="${item.itemId}"]`);
    if (card) showCountdown(card, item);
  }
}

function watch() {
  const events = new EventSource("/events");
  events.addEventListener("items", (event) => {
    const look = JSON.parse(event.data);
    clockError = new Date(look.serverTime) - Date.now();
    const isFirst = items.length === 0;
    items = look.items;
    $("#connection").textContent = "";
    showItems();
    if (isFirst) showOrders(); // they have names now
  });
  events.onerror = () => {
    $("#connection").textContent = "Connection lost. Trying again…";
    // The browser gives up by itself after some errors.
    if (events.readyState === EventSource.CLOSED) setTimeout(watch, 2000);
  };
}

// ---- buying ----

// A click that has no final answer yet is kept, so that after a reload it is the same purchase.
const pending = {
  get: () => JSON.parse(sessionStorage.getItem("click") ?? "null"),
  set: (click) => sessionStorage.setItem("click", JSON.stringify(click)),
  clear: () => sessionStorage.removeItem("click"),
};

async function buy(itemId) {
  if (buying) return;
  const key = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0"));
  pending.set({ itemId, key: key.join(""), paymentMethod: $("#payment-method").value });
  await finish();
}

// Repeats the click until there is a final answer.
async function finish() {
  const click = pending.get();
  buying = true;
  refreshButtons();
  say("One moment…");
  for (let delay = 250; ; delay = Math.min(delay * 2, LONGEST_DELAY_MS)) {
    const { itemId, paymentMethod, key } = click;
    const answer = await send("POST", `/purchase/${itemId}`, { paymentMethod }, { "Idempotency-Key": key });
    if (isFinal(answer)) {
      pending.clear();
      sayHere(words(answer));
      buying = false;
      refreshButtons();
      await lookAtOrders();
      return;
    }
    say(`${trouble(answer)} Trying again…`);
    await sleep(delay * (0.5 + Math.random() / 2));
  }
}

function words({ status, body }) {
  if (status === 200) return "Paid. It is yours.";
  if (status === 202) return "Reserved for you. Your payment is being checked.";
  if (status === 401) return "Your session is over. Load this page again.";
  return REFUSALS[body.reason]?.(body) ?? body.message ?? "That did not work.";
}

function trouble({ status }) {
  if (status === 503) return "Many people want this.";
  return status === 0 ? "The shop cannot be reached." : "Something went wrong on our side.";
}

// Unless the server is busy, in trouble or out of reach.
const isFinal = ({ status }) => status > 0 && status < 500;

// ---- orders ----

const STATES = {
  reserved: ({ expiresAt }) => `Held for you until ${time(expiresAt)}.`,
  paying: () => "Your payment is being checked.",
  confirmed: () => "Paid. It is yours.",
  cancelled: ({ closeReason }) =>
    closeReason === "card_declined" ? "Your card was declined. You were not charged." : "Cancelled.",
  expired: () => "The reservation ran out.",
  refunded: () => "Refunded.",
};

const state = (order) => STATES[order.status]?.(order) ?? order.status;
const isOpen = (order) => ["reserved", "paying"].includes(order.status);

async function lookAtOrders() {
  const answer = await send("GET", "/orders");
  if (answer.status !== 200) return;
  const before = orders;
  orders = answer.body.orders;
  showOrders();
  if (!buying) tellEnds(before);
}

// The current status of orders that were open at the last look.
function tellEnds(before) {
  const wereOpen = new Set(before.filter(isOpen).map(({ orderId }) => orderId));
  for (const order of orders) {
    if (wereOpen.has(order.orderId) && !isOpen(order)) say(`Order ${order.orderId}: ${state(order)}`);
  }
}

function showOrders() {
  $("#no-orders").hidden = orders.length > 0;
  const list = $("#orders");
  for (const [place, order] of orders.entries()) {
    let card = $(`[data-order="${order.orderId}"]`, list);
    if (!card) {
      card = $("#order-template").content.cloneNode(true).firstElementChild;
      card.dataset.order = order.orderId;
      $(".cancel", card).addEventListener("click", () => cancel(order.orderId));
      $(".cancel", card).setAttribute("aria-label", `Cancel order ${order.orderId}`);
      list.insertBefore(card, list.children[place] ?? null);
    }
    const name = items.find((item) => item.itemId === order.itemId)?.name ?? `Item ${order.itemId}`;
    $(".title", card).textContent = `Order ${order.orderId}: ${order.quantity} × ${name}`;
    $(".state", card).textContent = state(order);
    $(".cancel", card).hidden = !isOpen(order);
  }
}

// One look after the other, also when the answers are slow.
async function keepLooking() {
  for (;;) {
    await sleep(1000);
    if (orders.some(isOpen)) await lookAtOrders();
  }
}

async function cancel(orderId) {
  const button = $(`#orders [data-order="${orderId}"] .cancel`);
  button.disabled = true;
  const answer = await send("POST", `/orders/${orderId}/cancel`);
  const text = { 200: state(answer.body), 503: "Your payment is under way. Try again in a moment." }[answer.status];
  sayHere(text ?? words(answer));
  button.disabled = false;
  await lookAtOrders();
}

setInterval(refreshButtons, 250);
setInterval(tellNews, 15000);

watch();
await send("POST", "/session");
await lookAtOrders();
keepLooking();
if (pending.get()) await finish();
