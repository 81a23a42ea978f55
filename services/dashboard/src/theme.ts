import { createTheme, type MantineColorsTuple } from "@mantine/core";

const graphite: MantineColorsTuple = [
  "#d3d8e0", "#a9b1be", "#868f9e", "#636b79", "#3b424e", "#2b313b", "#20252d", "#171b21", "#12151a", "#0d1014",
];

export const theme = createTheme({
  primaryColor: "indigo",
  // White reads on it at 4.9 : 1.
  primaryShade: 7,
  defaultRadius: "sm",
  cursorType: "pointer",
  fontFamily: 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif',
  fontFamilyMonospace: 'ui-monospace, "SF Mono", SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace',
  fontSizes: { xs: "11.5px", sm: "13px", md: "14px", lg: "16px", xl: "19px" },
  headings: { fontWeight: "600", sizes: { h1: { fontSize: "19px" }, h2: { fontSize: "14px" }, h3: { fontSize: "13px" } } },
  colors: { dark: graphite },
});
