// The API as a page, made from the server's own /openapi.json.

const make = (name, text = "", kind = "") => Object.assign(document.createElement(name), { textContent: text, className: kind });
const kindOf = (schema = {}) =>
  schema.$ref?.split("/").at(-1) ?? schema.enum?.join(" | ") ?? schema.anyOf?.map(kindOf).join(" or ") ??
  (schema.type === "array" ? `list of ${kindOf(schema.items)}` : schema.type ?? "");

// A text as an element, with `code` set as code.
function spelled(name, text) {
  const element = make(name);
  element.append(...text.split("`").map((piece, i) => (i % 2 ? make("code", piece) : piece)));
  return element;
}

const prose = (text) => text.trim().split(/\n\s*\n/).map((part) => spelled("p", part));

function table(rows) {
  const body = make("table");
  for (const row of rows) {
    const line = make("tr");
    line.append(...row.map((text) => spelled("td", text)));
    body.append(line);
  }
  return body;
}

const api = await (await fetch("/openapi.json")).json();
const page = document.getElementById("api"), groups = new Map();
for (const [path, calls] of Object.entries(api.paths)) {
  for (const [verb, call] of Object.entries(calls)) {
    const section = make("section", "", "call"), title = make("h3");
    title.append(make("b", verb.toUpperCase()), path);
    section.append(title, ...prose(call.description ?? ""));
    const parameters = call.parameters ?? [];
    section.append(table(parameters.map((one) => [one.name, kindOf(one.schema), one.description ?? one.schema.description ?? one.in])));
    const answers = Object.entries(call.responses).filter(([status]) => status !== "422");
    section.append(table(answers.map(([status, one]) => {
      const [type, content] = Object.entries(one.content ?? {}).at(-1) ?? ["", {}];
      return [status, kindOf(content.schema) || type, one.description.replace("Successful Response", "")];
    })));
    const tag = call.tags?.[0] ?? "other";
    groups.set(tag, [...(groups.get(tag) ?? []), section]);
  }
}
page.replaceChildren(make("h1", "HTTP API"), ...prose(api.info.description));
for (const [tag, sections] of groups) page.append(make("h2", tag), ...sections);
page.append(make("h2", "answers"));
for (const [name, schema] of Object.entries(api.components.schemas)) {
  if (!schema.properties || name.includes("Validation")) continue;
  const section = make("section", "", "call");
  section.append(make("h3", name), table(Object.entries(schema.properties).map(([key, one]) => [key, kindOf(one), one.description ?? ""])));
  page.append(section);
}
