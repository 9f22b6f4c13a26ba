"""``coafi docs``: what a person at a terminal sees of the indexes."""

from coafi.index.pointers import IndexReader
from coafi.names import docs_path
from tests.harness import Repository, documents, running_stack, until
from tests.starters.support import Home


async def test_indexes_are_listed_and_shown(home: Home) -> None:
    async with running_stack(home.root, index_debounce=0.1) as stack:
        repository = Repository.create(home.root / "repository")
        url = repository.path.as_uri()
        files: dict[str, str | bytes | None] = {**documents(2), "broken.yaml": "a: [\n"}
        await (await stack.accepted(repository.push(files))).result()
        reader = IndexReader(stack.resources.database)
        await until(lambda: reader.newest(url, "main") is not None)
    (listed,) = home.json("docs", "list")
    assert (listed["repository"], listed["branch"], listed["commit"]) == (url, "main", repository.head)
    assert listed["url"].endswith(docs_path(url, "main"))
    shown = home.json("docs", "show", url, "main")
    assert shown["index"]["counts"]["verdicts"] == {"valid": 2, "invalid": 1, "skipped": 0, "unchecked": 1}
    text = home.coafi("docs", "show", url, "main").stdout
    assert "broken.yaml" in text
    assert listed["url"] in text
    assert "repository" in home.coafi("docs", "list").stdout
    missing = home.coafi("docs", "show", url, "nothing")
    assert missing.returncode == 1
    assert "has no index" in missing.stderr
    assert "coafi docs list" in missing.stderr
