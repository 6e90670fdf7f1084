"use strict";

/* The form in which a rule is built. It is made from the JSON Schema of rules, so that a metric or a
   field that is added there appears here by itself. The rule is a plain document in memory; the
   textarea `document` always says the same as text, and is what is posted. */
(() => {
  const PREVIEW_AFTER_MS = 600;
  const MOST_ITEMS_SHOWN = 100;
  const LONG = 80;
  /* How values of the schema are called; one that is not here is called by its name. */
  const WORDS = {
    ">": "is above (>)", ">=": "is at least (≥)", "<": "is below (<)", "<=": "is at most (≤)",
    "=": "is exactly (=)", "!=": "is other than (≠)", between: "is between", not_between: "is outside",
    all: "All of these", any: "Any of these", not: "Not this", z_score: "standard deviations (z-score)",
    percent: "change in percent", absolute: "difference", previous_window: "the window just before",
    baseline: "a baseline of days before", clarity: "Clarity", ads: "Ads",
  };
  const PARTS = [
    { title: "What it looks at", fields: ["name", "level", "scope", "filters"] },
    { title: "When it fires", fields: ["conditions"] },
    { title: "What it does", fields: ["actions", "needs_approval"] },
    { title: "How far it may go, and when it looks", fields: ["limits", "schedule", "priority", "overrides"] },
  ];
  /* Not required by the schema, and asked for wherever it makes sense. */
  const BESIDE = new Set(["to"]);
  /* A rule is armed or switched off by the buttons of its page. */
  const ELSEWHERE = new Set(["status", "shadow_until"]);

  const builder = document.getElementById("rule-builder");
  const text = document.getElementById("rule-document");
  const preview = document.getElementById("preview");
  const schema = JSON.parse(builder.dataset.schema);
  const opened = new Set();
  const told = new Set();
  let refusals = JSON.parse(builder.dataset.refusals);
  let tellsAll = refusals.length > 0;
  let rule = null;
  let asked = null;
  let timer = null;

  // The document

  const pathText = (path) =>
    path.reduce((all, part) => all + (typeof part === "number" ? `[${part}]` : all ? `.${part}` : part), "");
  const at = (path) => path.reduce((here, part) => here?.[part], rule);

  function put(path, value) {
    let here = rule;
    path.slice(0, -1).forEach((part, index) => {
      if (typeof here[part] !== "object" || here[part] === null) here[part] = typeof path[index + 1] === "number" ? [] : {};
      here = here[part];
    });
    const last = path.at(-1);
    if (value === undefined) delete here[last];
    else here[last] = value;
  }

  function take(path) {
    const list = at(path.slice(0, -1));
    list.splice(path.at(-1), 1);
  }

  // The schema

  /* References followed, with what stands beside them; of "this or null", this. */
  function resolve(node) {
    if (node.$ref) {
      const { $ref, ...beside } = node;
      return resolve({ ...schema.$defs[$ref.split("/").at(-1)], ...beside });
    }
    const others = node.anyOf?.filter((each) => each.type !== "null");
    if (others?.length === 1 && others.length < node.anyOf.length) {
      const { anyOf, ...beside } = node;
      return { ...resolve(others[0]), ...beside, nullable: true };
    }
    return node;
  }

  const isChoice = (node) => Boolean(node.anyOf?.some((each) => "const" in each));
  const isTree = (node) => Boolean(node.oneOf && !node.discriminator);
  const alternatives = (node) => node.oneOf.map(resolve);
  const tagOf = (node) => node.properties[node.tag]?.const;

  function tagged(node) {
    const tag = node.discriminator.propertyName;
    return alternatives(node).map((each) => ({ ...each, tag }));
  }

  /* The kinds of a node of the tree: groups have one property, which holds their nodes. */
  function kinds(node) {
    return alternatives(node).map((each) => {
      const names = Object.keys(each.properties);
      return { ...each, word: names.length === 1 ? names[0] : null };
    });
  }

  const kindAt = (node, value) => kinds(node).find((each) => each.word && value && each.word in value) ?? kinds(node).find((each) => !each.word);

  /* The least that a value of this kind is; what only a person can say is left open. */
  function blank(given) {
    const node = resolve(given);
    if ("const" in node) return node.const;
    if (isChoice(node)) return node.anyOf.find((each) => "const" in each).const;
    if (node.enum) return node.enum[0];
    if (isTree(node)) return blank(kinds(node).find((each) => !each.word));
    if (node.oneOf) return blank(tagged(node)[0]);
    if (node.type === "array") return node.minItems ? [blank(node.items)] : [];
    if (node.type === "boolean") return false;
    if (node.type !== "object") return undefined;
    const made = {};
    for (const name of node.required ?? []) {
      const value = blank(node.properties[name]);
      if (value !== undefined) made[name] = value;
    }
    return made;
  }

  /* Whether a field makes sense beside the values of its fellows, as `x-when` says. */
  function isWanted(node, owner, value) {
    return Object.entries(node["x-when"] ?? {}).every(([name, wanted]) => {
      const fellow = value?.[name] ?? resolve(owner.properties[name]).default ?? null;
      if (Array.isArray(wanted)) return wanted.includes(fellow);
      const chosen = chosenOf(resolve(owner.properties[name]), fellow);
      return Object.entries(wanted).every(([key, expected]) => chosen?.[key] === expected);
    });
  }

  function chosenOf(node, value) {
    return node.anyOf.find((each) => each.const === value) ?? node.anyOf.find((each) => !("const" in each));
  }

  // Pieces of the page

  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes ?? {})) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
    return element;
  }

  const words = (value) => WORDS[value] ?? String(value).replaceAll("_", " ");
  const titled = (name, given) => ({ title: words(name).replace(/^./, (first) => first.toUpperCase()), ...given });
  const idOf = (path) => `field-${pathText(path)}`;
  const sentence = (node) => node.description?.replaceAll(/\s+/g, " ");

  function button(label, id, press, more = {}) {
    return make("button", { type: "button", class: "small", id, onclick: press, ...more }, label);
  }

  function select(id, options, chosen, choose, more = {}) {
    const made = make("select", { id, onchange: (event) => choose(event.target.value), ...more });
    for (const [value, label, attributes] of options) {
      made.append(make("option", { value, selected: value === chosen, ...attributes }, label));
    }
    return made;
  }

  /* One control with its label, its hint, and what is wrong with it. */
  function field(path, node, control, { title = node.title, hint = sentence(node) } = {}) {
    const id = idOf(path);
    const notes = [hint && `${id}-hint`, `${id}-error`].filter(Boolean).join(" ");
    control.setAttribute("aria-describedby", notes);
    return make(
      "div",
      { class: "field", "data-path": pathText(path) },
      make("label", { for: control.id }, title),
      control,
      hint && make("p", { class: "hint", id: `${id}-hint` }, hint),
      make("p", { class: "field-error", id: `${id}-error` }),
    );
  }

  function group(path, legend, ...children) {
    return make(
      "fieldset",
      { class: "part", "data-path": pathText(path) },
      make("legend", null, legend),
      make("p", { class: "field-error", id: `${idOf(path)}-error` }),
      ...children,
    );
  }

  // Fields by their kind

  function draw(given, path) {
    const node = resolve(given);
    if ("const" in node) return null;
    if (isChoice(node)) return drawChoice(node, path);
    if (isTree(node)) return drawTree(node, path);
    if (node.oneOf) return drawTagged(node, path);
    if (node.enum) return drawEnum(node, path);
    if (node.type === "boolean") return drawYesNo(node, path);
    if (node.type === "array") return drawList(node, path);
    if (node.type === "object") return node.nullable ? drawOptional(node, path) : drawPart(node, path);
    return drawText(node, path);
  }

  /* What may all stay as it is needs a click to be seen, unless it says something already. */
  function drawPart(node, path) {
    const fields = drawFields(node, path);
    if (node.required?.length) return group(path, node.title, ...fields);
    return folded(path, node.title, fields, Object.keys(at(path) ?? {}).length > 0);
  }

  function folded(path, summary, fields, isOpen) {
    const key = pathText(path);
    return make(
      "details",
      {
        class: "further",
        open: isOpen || opened.has(key),
        ontoggle: (event) => (event.target.open ? opened.add(key) : opened.delete(key)),
      },
      make("summary", { id: `${idOf(path)}-more` }, summary),
      make("div", { class: "fields" }, ...fields),
    );
  }

  function drawText(node, path) {
    const isNumber = node.type === "number" || node.type === "integer";
    const value = at(path) === undefined ? node.default : at(path);
    const read = (written) => {
      const trimmed = written.trim();
      if (trimmed === "") return node.nullable ? (node.default == null ? undefined : null) : node.default === undefined && !isNumber ? "" : undefined;
      // What is no number goes as it is written, and is refused with a reason.
      if (isNumber) return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(trimmed) ? Number(trimmed) : trimmed;
      return written;
    };
    const control = make("input", {
      id: idOf(path),
      type: node.format === "date" ? "date" : "text",
      inputmode: isNumber ? "decimal" : null,
      maxlength: node.maxLength,
      list: node["x-names"] ? `names-of-${node["x-names"]}` : null,
      autocomplete: "off",
      spellcheck: node.maxLength > 200 ? null : "false",
      value: value ?? "",
      oninput: (event) => {
        put(path, read(event.target.value));
        changed();
      },
      onblur: () => tell(path),
    });
    const drawn = field(path, node, control);
    if (node.maxLength >= LONG) drawn.classList.add("wide");
    return drawn;
  }

  function drawEnum(node, path) {
    const value = at(path) ?? node.default;
    const options = node.enum.map((each) => [String(each), words(each)]);
    if (node.nullable) options.unshift(["", "–"]);
    const control = select(idOf(path), options, String(value ?? ""), (written) => {
      put(path, node.enum.find((each) => String(each) === written));
      redraw();
    });
    return field(path, node, control);
  }

  function drawYesNo(node, path) {
    const control = make("input", {
      type: "checkbox",
      id: idOf(path),
      checked: Boolean(at(path) ?? node.default),
      onchange: (event) => {
        put(path, event.target.checked);
        changed();
      },
    });
    const drawn = field(path, node, control);
    drawn.classList.add("tick");
    return drawn;
  }

  /* Thresholds are in the unit of the metric; pages may show its values in another. */
  function shownAs(metric) {
    const display = metric?.["x-display"];
    return display && display.factor !== 1 && `1 is shown as ${display.factor} ${display.unit} elsewhere.`;
  }

  /* One of many that are described, or another that follows a pattern. */
  function drawChoice(node, path) {
    const value = at(path);
    const known = node.anyOf.filter((each) => "const" in each);
    const other = node.anyOf.find((each) => !("const" in each));
    const chosen = chosenOf(node, value);
    const control = make("select", {
      id: idOf(path),
      onchange: (event) => {
        put(path, event.target.value);
        redraw();
      },
    });
    for (const origin of new Set(known.map((each) => each["x-origin"]))) {
      const options = known
        .filter((each) => each["x-origin"] === origin)
        .map((each) => make("option", { value: each.const, selected: each === chosen }, each.title));
      control.append(origin ? make("optgroup", { label: words(origin) }, ...options) : options[0]);
    }
    if (other) control.append(make("option", { value: "ad.", selected: chosen === other }, `${other.title} …`));
    const hint = [chosen?.description, chosen?.["x-unit"] && `In ${chosen["x-unit"]}.`, shownAs(chosen)].filter(Boolean).join(" ");
    const drawn = field(path, node, control, { hint });
    drawn.classList.add("wide");
    if (other && chosen === other) {
      const name = make("input", {
        id: `${idOf(path)}-name`,
        "aria-label": `${other.title}: its name`,
        autocomplete: "off",
        spellcheck: "false",
        value: value ?? "ad.",
        oninput: (event) => {
          put(path, event.target.value);
          changed();
        },
        onblur: () => tell(path),
      });
      control.after(name);
    }
    return drawn;
  }

  function drawTagged(node, path) {
    const choices = tagged(node);
    const value = at(path) ?? node.default;
    const chosen = choices.find((each) => tagOf(each) === value?.[each.tag]) ?? choices[0];
    const control = select(
      idOf(path),
      choices.map((each) => [tagOf(each), each.title]),
      tagOf(chosen),
      (tag) => {
        put(path, blank(choices.find((each) => tagOf(each) === tag)));
        redraw();
      },
    );
    const hint = [sentence(node), sentence(chosen)].filter(Boolean).join(" ");
    return make("div", { class: "tagged" }, field(path, node, control, { hint }), ...drawFields(chosen, path));
  }

  function drawOptional(node, path) {
    const isThere = Boolean(at(path));
    const control = make("input", {
      type: "checkbox",
      id: idOf(path),
      checked: isThere,
      onchange: (event) => {
        put(path, event.target.checked ? blank({ ...node, nullable: undefined }) : undefined);
        redraw();
      },
    });
    const drawn = field(path, node, control);
    drawn.classList.add("tick");
    return make("div", { class: "optional" }, drawn, ...(isThere ? drawFields(node, path) : []));
  }

  function drawList(node, path) {
    const items = resolve(node.items);
    const value = at(path) ?? node.default ?? [];
    if (items.enum) return drawTicks(node, items, path, value);
    if (items.type === "string") return drawLines(node, path, value);
    const one = node.title.replace(/s$/, "");
    const add = button(`Add ${one.toLowerCase()}`, `${idOf(path)}-add`, () => {
      put(path, [...value, blank(items)]);
      redraw(idOf([...path, value.length]));
    });
    if (value.length > MOST_ITEMS_SHOWN) {
      return group(path, node.title, make("p", { class: "quiet" }, `There are ${value.length}; change them in the text below.`));
    }
    const rows = value.map((_, index) => {
      const here = [...path, index];
      const remove = button("Remove", `${idOf(here)}-remove`, () => {
        take(here);
        redraw(`${idOf(path)}-add`);
      }, { "aria-label": `Remove ${one.toLowerCase()} ${index + 1}` });
      const parts = items.type === "object" ? drawFields(items, here) : [draw({ ...items, title: `${one} ${index + 1}` }, here)];
      return make("li", { "data-path": pathText(here) }, make("div", { class: "fields" }, ...parts), remove, make("p", { class: "field-error", id: `${idOf(here)}-error` }));
    });
    return group(path, node.title, sentence(node) && make("p", { class: "hint" }, sentence(node)), make("ol", { class: "items" }, ...rows), add);
  }

  function drawTicks(node, items, path, value) {
    return group(
      path,
      node.title,
      ...items.enum.map((each) =>
        make(
          "label",
          { class: "tick" },
          make("input", {
            type: "checkbox",
            id: `${idOf(path)}-${each}`,
            checked: value.includes(each),
            onchange: (event) => {
              const now = new Set(at(path) ?? node.default ?? []);
              if (event.target.checked) now.add(each);
              else now.delete(each);
              put(path, items.enum.filter((one) => now.has(one)));
              changed();
            },
          }),
          words(each),
        ),
      ),
    );
  }

  function drawLines(node, path, value) {
    const control = make("textarea", {
      id: idOf(path),
      rows: Math.min(Math.max(value.length, 2), 8),
      spellcheck: "false",
      oninput: (event) => {
        const lines = event.target.value.split("\n").map((line) => line.trim()).filter(Boolean);
        put(path, lines.length || !node.nullable ? lines : undefined);
        changed();
      },
      onblur: () => tell(path),
    }, value.join("\n"));
    return field(path, node, control, { hint: [sentence(node), "One on each line."].filter(Boolean).join(" ") });
  }

  /* What must be said first; what may be said behind a click, unless it says something already. */
  function drawFields(node, path) {
    const value = at(path);
    const required = new Set(node.required ?? []);
    const shown = [];
    const further = [];
    let hasMore = false;
    for (const [name, given] of Object.entries(node.properties)) {
      const property = resolve(given);
      const here = [...path, name];
      if ("const" in property) continue;
      if (!isWanted(property, node, value)) {
        // Nobody sees it any more, and it would be refused.
        if (value && name in value) delete value[name];
        continue;
      }
      const drawn = draw(titled(name, given), here);
      if (required.has(name) || !required.size || BESIDE.has(name)) shown.push(drawn);
      else {
        further.push(drawn);
        const said = value?.[name];
        hasMore ||= said !== undefined && JSON.stringify(said) !== JSON.stringify(property.default ?? null);
      }
    }
    if (!further.length) return shown;
    if (further.length <= 2 && !isTree(node)) return [...shown, ...further];
    return [...shown, folded(path, "Guards and more", further, hasMore)];
  }

  // The tree of conditions

  const nodesIn = (kind, value) => (Array.isArray(value[kind.word]) ? value[kind.word] : [value[kind.word]]);

  function drawTree(node, path) {
    const value = at(path) ?? {};
    const kind = kindAt(node, value);
    const within = kind.word ? nodesIn(kind, value) : [];
    const isList = kind.word && resolve(kind.properties[kind.word]).type === "array";
    const choose = select(
      idOf(path),
      kinds(node).map((each) => [each.word ?? "", each.word ? words(each.word) : "A condition", { disabled: !each.word && within.length > 1 }]),
      kind.word ?? "",
      (word) => {
        put(path, asKind(node, value, word));
        redraw();
      },
      { "aria-label": `Kind of ${pathText(path)}` },
    );
    const parent = at(path.slice(0, -1));
    const remove = Array.isArray(parent) && parent.length > 1 && button("Remove", `${idOf(path)}-remove`, () => {
      take(path);
      redraw(idOf(path.slice(0, -2)));
    }, { "aria-label": `Remove ${pathText(path)}` });
    const body = [];
    if (!kind.word) body.push(make("div", { class: "fields" }, ...drawFields(kind, path)));
    else if (!isList) body.push(drawTree(node, [...path, kind.word]));
    else {
      const list = [...path, kind.word];
      const add = (label, what, made) =>
        button(label, `${idOf(list)}-add-${what}`, () => {
          put([...list, within.length], made());
          redraw(idOf([...list, within.length]));
        });
      const condition = () => blank(kinds(node).find((each) => !each.word));
      const other = kinds(node).find((each) => each.word && each.word !== kind.word).word;
      body.push(
        make("ol", { class: "nodes" }, ...within.map((_, index) => make("li", null, drawTree(node, [...list, index])))),
        make("div", { class: "row" }, add("Add a condition", "condition", condition), add("Add a group", "group", () => ({ [other]: [condition()] }))),
      );
    }
    return make(
      "div",
      { class: kind.word ? "node of-nodes" : "node", role: "group", "aria-label": pathText(path), "data-path": pathText(path) },
      make("div", { class: "node-head" }, choose, remove),
      make("p", { class: "field-error", id: `${idOf(path)}-error` }),
      ...body,
    );
  }

  /* The same conditions under another word. */
  function asKind(node, value, word) {
    const kind = kindAt(node, value);
    const within = kind.word ? nodesIn(kind, value) : [value];
    if (!word) return within[0];
    const wanted = kinds(node).find((each) => each.word === word);
    if (resolve(wanted.properties[word]).type === "array") return { [word]: within };
    return { [word]: within.length === 1 ? within[0] : value };
  }

  // What is wrong

  function tell(path) {
    told.add(pathText(path));
    showRefusals();
  }

  /* Each at its field, or at the nearest thing around it that is on the page. */
  function showRefusals() {
    for (const place of builder.querySelectorAll(".field-error")) place.textContent = "";
    for (const control of builder.querySelectorAll("[aria-invalid]")) control.removeAttribute("aria-invalid");
    const elsewhere = [];
    for (const { path, reason } of refusals) {
      let here = path;
      let place = null;
      while (here && !(place = document.getElementById(`field-${here}-error`))) here = here.replace(/(\.[^.[\]]+|\[\d+\]|^[^.[]+)$/, "");
      if (!place) elsewhere.push(path ? `${path}: ${reason}` : reason);
      else if (tellsAll || told.has(path)) {
        place.textContent = [place.textContent, here === path ? reason : `${path.slice(here.length).replace(/^\./, "")}: ${reason}`].filter(Boolean).join("; ");
        document.getElementById(`field-${here}`)?.setAttribute("aria-invalid", "true");
        for (let around = place.closest("details"); around; around = around.parentElement.closest("details")) around.open = true;
      }
    }
    document.getElementById("refused-elsewhere").textContent = elsewhere.join("; ");
  }

  // Together

  function redraw(focus = document.activeElement?.id) {
    const properties = schema.properties;
    const placed = new Set(PARTS.flatMap((part) => part.fields));
    const further = Object.keys(properties).filter((name) => !placed.has(name) && !ELSEWHERE.has(name));
    const parts = further.length ? [...PARTS, { title: "Further", fields: further }] : PARTS;
    builder.replaceChildren(
      ...parts.map(({ title, fields }, index) =>
        make(
          "section",
          { class: "card", "aria-labelledby": `part-${index}` },
          make("h2", { id: `part-${index}` }, title),
          make("div", { class: "fields" }, ...fields.filter((name) => name in properties).map((name) => draw(titled(name, properties[name]), [name]))),
        ),
      ),
    );
    showRefusals();
    if (focus) document.getElementById(focus)?.focus();
    changed();
  }

  function changed() {
    text.value = JSON.stringify(rule, null, 2);
    clearTimeout(timer);
    timer = setTimeout(showPreview, PREVIEW_AFTER_MS);
  }

  async function showPreview() {
    asked?.abort();
    const mine = (asked = new AbortController());
    preview.setAttribute("aria-busy", "true");
    try {
      const reply = await fetch(builder.dataset.preview, {
        method: "POST",
        body: new URLSearchParams(new FormData(text.form)),
        headers: { "HX-Request": "true" },
        signal: mine.signal,
      });
      const elsewhere = reply.headers.get("HX-Redirect");
      if (elsewhere) location.assign(elsewhere);
      preview.innerHTML = await reply.text();
      refusals = JSON.parse(preview.querySelector("[data-refusals]")?.dataset.refusals ?? "[]");
      showRefusals();
    } catch (error) {
      if (error.name === "AbortError") return;
      preview.textContent = "The panel does not answer just now; the preview comes with the next change.";
    }
    preview.removeAttribute("aria-busy");
  }

  /* The form follows the text where the text is JSON. Other text is posted as it is: it may be YAML. */
  function read() {
    let written = null;
    try {
      written = JSON.parse(text.value);
    } catch {
      // Told below.
    }
    const isRule = written !== null && typeof written === "object" && !Array.isArray(written);
    document.getElementById("text-note").textContent = isRule ? "" : "This is not JSON, so the form does not show it; it is saved as it is if it is YAML.";
    builder.hidden = !isRule;
    if (isRule) {
      rule = written;
      redraw();
    } else {
      clearTimeout(timer);
      timer = setTimeout(showPreview, PREVIEW_AFTER_MS);
    }
  }

  text.addEventListener("change", read);
  document.getElementById("preview-now").addEventListener("click", (event) => {
    event.preventDefault();
    tellsAll = true;
    showPreview();
  });
  document.getElementById("as-text").open = false;
  read();
})();
