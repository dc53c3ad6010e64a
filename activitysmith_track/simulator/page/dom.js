// Elements from data. Text only ever becomes text nodes and attribute values, never markup.

const SVG = "http://www.w3.org/2000/svg";

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "style") {
      for (const [property, text] of Object.entries(value)) element.style.setProperty(property, text);
    } else {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  for (const child of children.flat(3)) {
    if (child === null || child === undefined || child === false || child === "") continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

/** Build an HTML element. */
export const h = (tag, attributes, ...children) => build(document.createElement(tag), attributes, children);

/** Build an SVG element. */
export const s = (tag, attributes, ...children) => build(document.createElementNS(SVG, tag), attributes, children);

const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null);

const alike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);

/** Make the children of an element equal to the wanted ones; what is alike stays, with its focus and transitions. */
export function fill(parent, ...wanted) {
  const focused = document.activeElement;
  arrange(parent, wanted);
  if (document.activeElement !== focused && parent.contains(focused)) focused.focus({ preventScroll: true }); // it was moved
}

function arrange(parent, wanted) {
  const kept = new Map();
  for (const child of parent.children) if (keyOf(child) !== null) kept.set(keyOf(child), child);
  let at = parent.firstChild;
  for (const next of wanted.flat(3)) {
    if (!(next instanceof Node)) continue;
    const key = keyOf(next);
    const found = key !== null ? kept.get(key) : at !== null && alike(at, next) ? at : undefined;
    if (found === undefined || !alike(found, next)) {
      parent.insertBefore(next, at);
      continue;
    }
    if (found === at) at = at.nextSibling;
    else parent.insertBefore(found, at);
    patch(found, next);
  }
  while (at !== null) {
    const after = at.nextSibling;
    at.remove();
    at = after;
  }
}

function patch(old, next) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== next.data) old.data = next.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (name !== "style" && name !== "open" && !next.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of [...next.attributes]) {
    if (name !== "style" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  if (old.style.cssText !== next.style.cssText) old.style.cssText = next.style.cssText;
  if (!old.hasAttribute("data-own")) arrange(old, [[...next.childNodes]]);
}
