"""git: clone, commit, merge, repack, gc and fsck, of a history that is made the same each time."""

import hashlib

from harness.case import Case

TITLE = "git (clone, commit, merge, gc, fsck)"
PACKAGES = ("git",)

COMMITS = 60
SHORT_COMMITS = 15
WHEN = "2001-02-03T04:05:06Z"


def cases(short):
    return [Case("history", lambda place: _history(place, SHORT_COMMITS if short else COMMITS), 900)]


def _history(place, commits):
    verdicts = {}
    here, copy = place.directory / "one", place.directory / "two"
    here.mkdir()
    settings = {
        "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_PAGER": "cat", "HOME": str(place.directory),
        **{f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER")
           for what, value in (("NAME", "Somebody"), ("EMAIL", "somebody@example.org"), ("DATE", WHEN))},
    }

    def git(*words, cwd=here):
        outcome = place.run(["git", *words], cwd=cwd, **settings)
        printed = (outcome.stdout + outcome.stderr).replace(str(place.directory), "HERE")
        if len(printed) > 400:
            printed = hashlib.sha256(printed.encode()).hexdigest()
        verdicts[f"{len(verdicts)}: git {' '.join(words)}".replace(str(place.directory), "HERE")] = f"{outcome.status}: {printed}"

    git("init", "-q", "-b", "main", ".")
    for turn in range(commits):
        for file in range(12):
            folder = here / f"folder{file % 4}"
            folder.mkdir(exist_ok=True)
            text = "".join(f"{line * (turn // (file + 1))}\n" for line in range(300))
            (folder / f"file{file}.txt").write_text(text)
        git("add", ".")
        git("commit", "-q", "-m", f"turn {turn}")
        if turn % 10 == 5:
            git("checkout", "-q", "-b", f"side{turn}", "HEAD~2")
            (here / f"side{turn}").write_text(f"{turn}\n" * 100)
            git("add", ".")
            git("commit", "-q", "-m", f"side {turn}")
            git("checkout", "-q", "main")
            git("merge", "-q", "-m", f"merge {turn}", f"side{turn}")
    git("log", "--graph", "--stat", "--all")
    git("log", "-p", "-3")
    git("clone", "-q", "--no-local", str(here), str(copy), cwd=place.directory)
    git("fsck", "--full", "--strict", "--no-progress", cwd=copy)
    git("rebase", "-q", "--onto", "HEAD~3", "HEAD~2", cwd=copy)
    git("blame", "HEAD", "folder0/file0.txt", cwd=copy)
    git("grep", "-c", "81", cwd=copy)
    git("repack", "-q", "-a", "-d", "-f", "--depth=50", cwd=copy)
    git("gc", "-q", "--aggressive", "--prune=now", cwd=copy)
    git("fsck", "--full", "--strict", "--no-progress", cwd=copy)
    git("fetch", "-q", str(here), "main", cwd=copy)
    git("archive", "HEAD", cwd=copy)
    git("rev-list", "--all", "--objects", cwd=copy)
    return verdicts
