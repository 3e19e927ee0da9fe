"""Hooks of MkDocs, which make the site of the repository's files as they are."""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File, Files
from mkdocs.utils import get_relative_url

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\]\(([^)\s#:]+)[^)\s:]*\)")
ENTRY = re.compile(r' id="(keras_hypernets\.[\w.]+)"')
NAME = re.compile(r"<code>([\w.]+)</code>(?![^<]*</a>)(?!.*</h\d>)")
NOT_SEARCHED = re.compile(r'class="(doc-signature|mkdocstrings-source)')


def on_files(files, config):
    """Names files by their paths in the repository, and adds those that pages link to.

    So a link that leads somewhere on GitHub leads there in the site.
    """
    of_docs = [file for file in files if file.src_dir == config.docs_dir]
    of_theme = [file for file in files if file.src_dir != config.docs_dir]
    shown = [file for file in of_docs if not file.inclusion.is_excluded()]
    targets = {f"docs/{file.src_uri}": file.dest_uri for file in shown}
    targets["README.md"] = None  # as MkDocs names it
    pages = [path for path in targets if path.endswith(".md")]
    for page in pages:  # grows on the way
        for link in LINK.findall((ROOT / page).read_text("utf-8")):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
            if path in targets or not (ROOT / path).is_file():
                continue
            # Browsers would save files of these types, not show them.
            targets[path] = f"{path}.txt" if path.endswith((".py", ".cff")) else None
            if path.endswith(".md"):
                pages.append(path)
    options = str(ROOT), config.site_dir, config.use_directory_urls
    ours = [File(path, *options, dest_uri=target) for path, target in targets.items()]
    return Files([*of_theme, *ours])


def on_page_markdown(markdown, page, config, files):
    """Leaves out the navigation beside a page that is a tab, and finds the reference first."""
    if page.parent is None:
        page.meta["hide"] = ["navigation"]
    if page.file.src_uri.startswith("docs/api/"):
        page.meta["search"] = {"boost": 2}


def on_env(env, config, files):
    """Links names in code font to their entries in the API reference.

    Signatures and sources are left out of the search, whose results they would fill.
    """
    pages = [file.page for file in files.documentation_pages()]
    entries = {}
    for page in pages:
        for entry in ENTRY.findall(page.content):
            for name in short_names(entry):
                entries.setdefault(name, f"{page.url}#{entry}")
    for page in pages:

        def link(code, page=page):
            url = entries.get(code[1])
            return f'<a href="{get_relative_url(url, page.url)}">{code[0]}</a>' if url else code[0]

        page.content = NAME.sub(link, page.content)
        page.content = NOT_SEARCHED.sub(r"data-search-exclude \g<0>", page.content)
    return env


def short_names(entry):
    """Yields how pages call an entry: `models.hyper_cnn`, `HyperLSTM`, but not `step`."""
    parts = entry.split(".")
    for start in range(len(parts)):
        name = ".".join(parts[start:])
        of_class = start and parts[start - 1][0].isupper()
        if "." in name or (re.search("[A-Z_]", name) and not of_class):
            yield name
