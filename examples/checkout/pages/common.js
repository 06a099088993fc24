// What both pages need.

export const $ = (selector, within = document) => within.querySelector(selector);

// Sends JSON, gets JSON; status 0 stands for no answer.
export async function send(method, path, body, headers = {}) {
  try {
    const type = { "Content-Type": "application/json" };
    const response = await fetch(path, { method, headers: { ...type, ...headers }, body: body && JSON.stringify(body) });
    return { status: response.status, body: await response.json() };
  } catch {
    return { status: 0, body: { message: "The shop cannot be reached." } };
  }
}

// From minor units, which are not hundredths in every currency.
export function price(minor, currency) {
  if (minor === null || !currency) return "";
  const format = new Intl.NumberFormat([], { style: "currency", currency });
  return format.format(minor / 10 ** format.resolvedOptions().maximumFractionDigits);
}
