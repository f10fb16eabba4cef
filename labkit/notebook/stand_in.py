"""What stands in an output for a widget that cannot come up: no kernel, or a page without widgets."""

# Where widgets may come up, the stand-in waits, hidden; on a plain page there is nothing to wait for.
WAIT = """
(() => {
  const element = document.querySelector('[data-twin-of="ID"]');
  const failed = /Error displaying widget|Failed to load model|Loading widget|model not found/;
  const host = document.getElementById("main") || window.Jupyter || window.google?.colab || window.acquireVsCodeApi;
  const cell = element.closest(".jp-OutputArea, .output");
  const widgets = () => [...(cell?.querySelectorAll(".jupyter-widgets") || [])];
  const isDrawn = (widget) => !failed.test(widget.textContent);
  const isLive = () => document.querySelector('[data-live="ID"]') || widgets().some(isDrawn);
  let left = host ? 25 : 0;
  element.hidden = Boolean(host);
  const look = () => {
    if (isLive()) return;
    if (left-- > 0) return setTimeout(look, 100);
    for (const output of cell?.querySelectorAll(".jp-OutputArea-child, .output_area") || []) {
      if (!output.contains(element) && failed.test(output.textContent)) output.style.display = "none";
    }
    element.hidden = false;
  };
  look();
})();
"""


def stand_in(html: str, name: str) -> str:
    """HTML that is shown where the widget `name` does not come up, in place of the front end's "model not found".

    Where no script runs (a code host), it is shown as it is.
    """
    waiting = WAIT.replace("ID", name)
    return f'<div data-twin-of="{name}">{html}</div><script>{waiting}</script>'
