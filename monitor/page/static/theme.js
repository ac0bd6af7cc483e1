// Before the first paint, so that a dark page does not flash white.
try {
  const chosen = localStorage.getItem("repstream-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // Storage may be forbidden; then the system's colours it is.
}
