/** The server's JSON with names in camelCase and times as Dates. */
export function read(json: unknown): unknown {
  if (Array.isArray(json)) return json.map(read);
  if (typeof json !== 'object' || json === null) return json;
  const answer: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(json)) {
    const isTime = typeof value === 'string' && TIME.test(name);
    answer[camelCase(name)] = isTime ? time(value) : read(value);
  }
  return answer;
}

const TIME = /_(at|since|deadline)$/;
const names = new Map<string, string>();

function camelCase(name: string): string {
  let camel = names.get(name);
  if (camel === undefined) {
    camel = name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
    names.set(name, camel);
  }
  return camel;
}

/** Infinity, and years that a Date does not have, become the last or first moment that it has. */
function time(text: string): Date {
  const date = new Date(text);
  if (!Number.isNaN(date.getTime())) return date;
  const early = text.startsWith('-') || text.endsWith('BC');
  return new Date(early ? -8.64e15 : 8.64e15);
}
