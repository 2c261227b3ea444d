"""Links of pages that also stand in the repository: from its files to the pages of the site."""

import re

PAGES_OF_DOCS = ("analysis", "command-line", "convert", "export", "imagenet", "networks", "security", "transfer")
PAGES = {
    "train/README.md": "training.md",
    "benchmarks/RESULTS.md": "benchmarks.md",
    "CHANGELOG.md": "changelog.md",
    "README.md": "index.md",
    **{f"docs/{name}.md": f"{name}.md" for name in PAGES_OF_DOCS},
}


def on_page_markdown(markdown, page, config, files):
    """A link such as ``../train/README.md`` becomes the page that shows the file; other files are named, not linked."""

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
    return re.sub(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)", replace, markdown)
