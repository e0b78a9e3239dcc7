// Before anything is painted: the reader's choice of light or dark, if there is one; otherwise the system's.
(() => {
  try {
    const theme = localStorage.getItem("detbalance-theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch { /* storage is closed: the system's theme stands */ }
})();
