// Before anything is painted: the colours that were chosen on an earlier visit, else those of the system. Where the
// choice lies and how it is spelled is Mantine's.
{
  const chosen = localStorage.getItem("mantine-color-scheme-value");
  const dark = chosen === "dark" || (chosen !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.mantineColorScheme = dark ? "dark" : "light";
}
