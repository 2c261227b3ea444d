"""Links of pages that are also in the repository: from its files to the pages of the site."""

import pathlib
import re

DOCS = pathlib.Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")
CODE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)
PAGES = {
    "train/README.md": "training.md",
    "benchmarks/RESULTS.md": "benchmarks.md",
    "benchmarks/README.md": "benchmarking.md",
    "CHANGELOG.md": "changelog.md",
    "README.md": "index.md",
    **{f"docs/{path.name}": path.name for path in DOCS.glob("*.md")},
}


def on_page_markdown(markdown, page, config, files):
    """Replaces links such as ``../train/README.md`` by the page that shows the file; other files are named."""

    def replace(match):
        text, target = match[1], match[2]
        path, _, anchor = re.sub(r"^(\.\./)+", "", target).partition("#")
        if path in PAGES:
            return f"[{text}]({PAGES[path]}{'#' + anchor if anchor else ''})"
        inside = target.split("#")[0]
        if target.startswith(("#", "http")) or inside.endswith((".png", ".svg")) or files.get_file_from_path(inside):
            return match[0]
        return f"`{path}`" if text == path or text.startswith("`") else f"{text} (`{path}`)"

    if page.file.src_uri.count("/"):  # pages of the site alone
        return markdown
    return "".join(part if CODE.fullmatch(part) else LINK.sub(replace, part) for part in CODE.split(markdown))
