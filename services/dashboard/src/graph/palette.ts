/** Colours of the graph, read from the page's own variables so that light and dark follow the theme. */
export interface Palette {
  ink: string;
  dim: string;
  line: string;
  surface: string;
  ground: string;
  thread: string;
  positive: string;
  negative: string;
  feature: string;
  error: string;
  font: string;
}

export function readPalette(element: HTMLElement): Palette {
  const style = getComputedStyle(element);
  const value = (name: string) => style.getPropertyValue(name).trim();
  return {
    ink: value("--ink"),
    dim: value("--ink-2"),
    line: value("--line"),
    surface: value("--surface"),
    ground: value("--ground"),
    thread: value("--thread"),
    positive: value("--positive"),
    negative: value("--negative"),
    feature: value("--running"),
    error: value("--bad"),
    font: style.fontFamily,
  };
}
