import time

import pytest

from coafi.documents.check import FileReport, check_file
from coafi.documents.context import CheckContext
from coafi.documents.links import MAX_TARGETS
from coafi.documents.outline import MAX_ANCHORS
from coafi.findings import Severity
from tests.coafi.documents.samples import BUILTIN, GOOD
from tests.coafi.documents.trees import MemoryTree

AROUND = {
    "README.md": "# Read me",
    "docs/plan.md": "# Plan\n\n## Next steps\n\n## 1. Über uns\n\n<a id='mark'></a>\n",
    "docs/My File.md": "# Mine",
    "docs/100%25.md": "",
    "docs/img/logo.png": "",
    "docs/guides/other.md": "# Other",
    "schemas/a.json": "{}",
}
LINKS = ("docs/latest", "vendor/lib")


def look(body: str, path: str = "docs/a.md", more: dict[str, str] | None = None) -> FileReport:
    content = (GOOD + body).encode()
    tree = MemoryTree({**AROUND, **(more or {}), path: content}, links=LINKS)
    return check_file(path, content, BUILTIN, context=CheckContext.of(tree))


def told(report: FileReport) -> list[tuple[str, int | None, int | None, str, str]]:
    first = GOOD.count("\n")
    return [(one.rule, (one.line or 0) - first, one.column, one.message, one.remedy) for one in report.findings]


@pytest.mark.parametrize(
    "link",
    [
        *(
            "plan.md",
            "./plan.md",
            "../README.md",
            "/docs/plan.md",
            "guides",
            "guides/",
            "..",
            "/",
            ".",
            "?x",
            "plan.md?x#plan",
        ),
        *(
            "plan.md#next-steps",
            "plan.md#1-%C3%BCber-uns",
            "plan.md#1-über-uns",
            "plan.md#mark",
            "plan.md#Top",
            "plan.md#",
        ),
        *("#utids-management-schema", "#top", "#", "a.md#here", "plan.md#L10", "plan.md#L1-L3", "plan.md#:~:text=x"),
        *("My%20File.md", "<My File.md>", "100%2525.md", "100%25.md", "img/logo.png#x", "guides#x"),
        *(
            "latest/any.md",
            "../vendor/lib/x/y.md#z",
            "../vendor/lib",
            "https://a.example/x.md",
            "//a.example",
            "mailto:a@b.c",
        ),
        *("{{ site.url }}/x", "${base}/x", "../../issues/4", "../../wiki", "HTTP://A", "tel:1"),
    ],
)
def test_what_is_there_is_not_reported(link: str) -> None:
    assert look(f"[text]({link})\n\n## Here\n").findings == ()


@pytest.mark.parametrize(
    ("body", "rule", "place", "said", "remedy"),
    [
        ("x [a](gone.md)", "link/missing-file", (1, 3), "the link leads to 'gone.md'", "correct the target"),
        ("é 🚀 [a](gone.md)", "link/missing-file", (1, 5), "seen from docs/", "correct"),
        ("[a](plam.md)", "link/missing-file", (1, 1), "'plam.md'", "did you mean plan.md?"),
        ("[a](Plan.MD#plan)", "link/missing-file", (1, 1), "", "did you mean plan.md#plan?"),
        ("[a](plan)", "link/missing-file", (1, 1), "", "did you mean plan.md?"),
        ("[a](gides/othr.md)", "link/missing-file", (1, 1), "", "did you mean guides/other.md?"),
        ("[a](my%20fil.md)", "link/missing-file", (1, 1), "", "did you mean My%20File.md?"),
        (r"[a](guides\other.md)", "link/missing-file", (1, 1), "", "did you mean guides/other.md?"),
        ("[a](www.example.org)", "link/missing-file", (1, 1), "", "write https://www.example.org"),
        ("![a](img/none.png)", "link/missing-file", (1, 1), "the image leads", "correct"),
        ("![a](img)", "link/missing-file", (1, 1), "which is a directory", "correct"),
        ("[a](plan.md/x)", "link/missing-file", (1, 1), "", ""),
        ("[a](/gone.md)", "link/missing-file", (1, 1), "seen from the root", ""),
        (f"[a]({'x' * 2000})", "link/missing-file", (1, 1), "too long", ""),
        (f"[a]({'x' * 200}.md)", "link/missing-file", (1, 1), "", "correct"),
        ("[a](docs/plan.md)", "link/other-directory", (1, 1), "resolves from the parent directory", "write plan.md"),
        ("[a](/plan.md)", "link/other-directory", (1, 1), "from the directory of the document", "write plan.md"),
        ("[a](README.md#x)", "link/other-directory", (1, 1), "from the parent directory", "write ../README.md#x"),
        (
            "[a](plan.md#next-step)",
            "link/missing-heading",
            (1, 1),
            "docs/plan.md has no heading",
            "did you mean #next-steps?",
        ),
        ("[a](plan.md#Next_Steps)", "link/missing-heading", (1, 1), "", "did you mean #next-steps?"),
        ("[a](#nowhere)", "link/missing-heading", (1, 1), "this document has no heading", "correct what follows"),
        ("[a](a.md#nowhere)", "link/missing-heading", (1, 1), "this document", ""),
        ("[a](../../x.md)", "link/outside", (1, 1), "outside of the repository", ""),
        ("[a](C:\\\\x.md)", "link/outside", (1, 1), "one machine only", ""),
        ("[a](file:///x.md)", "link/outside", (1, 1), "one machine only", ""),
        ("[a]()", "link/empty", (1, 1), "the link has no target", ""),
        ("![a](<>)", "link/empty", (1, 1), "the image has no target", ""),
        ("x <a\n href='gone.md'>y</a>", "link/missing-file", (1, 3), "'gone.md'", ""),
        ('<div>\n <img alt="" src="none.png">\n</div>', "link/missing-file", (2, 2), "the image", ""),
        ("> - [a]\n\n[a]: gone.md", "link/missing-file", (3, 1), "'gone.md'", ""),
        ("[b][A  b] [A b] [a B][]\n\n[a\nb]: gone.md", "link/missing-file", (3, 1), "'gone.md'", ""),
        ("| a |\n|---|\n| [x](gone.md) |", "link/missing-file", (3, 3), "'gone.md'", ""),
        ("[![i](none.png)](plan.md)", "link/missing-file", (1, 2), "the image", ""),
        ("a\r\n[a](gone.md)", "link/missing-file", (2, 1), "'gone.md'", ""),
    ],
)
def test_what_is_not_there_is_reported_where_it_is(
    body: str, rule: str, place: tuple[int, int], said: str, remedy: str
) -> None:
    ((found, line, column, message, to_do),) = told(look(body))
    assert (found, (line, column)) == (rule, place)
    assert said in message
    assert to_do.startswith(remedy)


def test_directories_further_up_are_named() -> None:
    assert "resolves from the parent directory" in look("[a](other.md)", "docs/guides/deep/a.md").findings[0].message
    assert "from the directory docs," in look("[a](plan.md)", "docs/guides/deep/a.md").findings[0].message
    found = look("[a](schemas/a.json)", "docs/guides/deep/a.md").findings[0]
    assert "from the root of the repository" in found.message
    assert found.remedy == "write ../../../schemas/a.json"


@pytest.mark.parametrize(
    "body", ["`[a](gone.md)`", "```\n[a](gone.md)\n```", "<!-- [a](gone.md) <a href='b'> -->", "[a] (x.md)"]
)
def test_what_is_no_link_is_not_followed(body: str) -> None:
    assert look(body).findings == ()


def test_a_document_in_the_root_has_no_parent_directory() -> None:
    (found,) = look("[a](none.md)", "a.md").findings
    assert found.rule == "link/missing-file"
    assert "seen from the root of the repository" in found.message


def test_without_a_tree_links_are_not_looked_at() -> None:
    assert check_file("a.md", (GOOD + "[a](gone.md)").encode(), BUILTIN).findings == ()


def test_of_many_anchors_none_is_missed() -> None:
    more = {"docs/many.md": "".join(f"# h{number}\n" for number in range(MAX_ANCHORS + 5))}
    assert look(f"[a](many.md#h{MAX_ANCHORS + 3})", more=more).findings == ()


def test_too_many_links_are_not_followed_and_it_is_said() -> None:
    report = look("".join(f"[a](plan.md?{number})\n" for number in range(MAX_TARGETS + 10)))
    assert [one.rule for one in report.findings] == ["link/not-checked"]
    assert report.findings[0].line == GOOD.count("\n") + MAX_TARGETS + 1


DEAD = "".join(f"[a](gone{number}.md)\n" for number in range(300))


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (DEAD + "[a](#nope)\n", "link/missing-heading"),
        (DEAD + "[a][nope]\n", "link/undefined"),
        ("".join(f"[a](/gone{number}.md)\n" for number in range(300)) + "[a]()\n", "link/empty"),
    ],
)
def test_no_number_of_broken_links_hides_one_that_the_repository_calls_an_error(body: str, error: str) -> None:
    content = (GOOD + body).encode()
    context = CheckContext(
        MemoryTree({"docs/a.md": content}), {"link/missing-file": None, error: Severity.ERROR, "link/not-checked": None}
    )
    report = check_file("docs/a.md", content, BUILTIN, context=context)
    assert [one.rule for one in report.findings] == [error]


def test_links_that_take_too_long_are_not_followed_and_it_is_said() -> None:
    deep = "d/" * 1_000
    body = "".join(f"[a](gone{number}.md)\n" for number in range(2_000))
    start = time.process_time()
    report = look(body, path=f"{deep}a.md")
    assert time.process_time() - start < 30
    assert {one.rule for one in report.findings} == {"link/missing-file", "link/not-checked"}


HOSTILE = {
    "brackets": "[" * 2**19,
    "images": "![a" * 2**17,
    "open links": "[a](" * 2**17,
    "dead links": "".join(f"[a](gone{number}.md)\n" for number in range(100_000)),
    "similar links": "".join(f"[a](plan{number}.md#plan)\n" for number in range(100_000)),
    "dead anchors": "# heading\n" * 10_000 + "".join(f"[a](#heading-x{number})\n" for number in range(20_000)),
    "deep paths": "".join(f"[a]({'a/' * 400}{number})\n" for number in range(1_000)),
    "one link": "[a](gone.md)\n" * 100_000,
    "table": "|a" * 50_000 + "\n" + "|-" * 50_000 + "\n" + "|b" * 50_000,
    "rows": "|a|\n|-|\n" + "|[x](gone.md)|\n" * 100_000,
    "tags": "<a href=" * 2**17,
    "quotes": "<a href='" * 2**17,
    "comments": "<!--" * 2**17,
    "definitions": "".join(f"[a{number}]: gone{number}\n" for number in range(50_000)) + "\n[a1] [a2]",
    "references": "[a]: gone\n\n" + "[a] " * 100_000,
    "quotations": ">" * 100_000 + "[a](gone.md)",
    "emphasis": "*a_" * 2**17,
    "headings": "# a\n" * 2**17,
    "headings in HTML": "<h1>" * 2**17,
    "footnotes": "[^1]" * 2**17 + "\n\n[^1]: x",
    "events": "a*b*\n" * 400_000,
}


@pytest.mark.soak
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_documents_take_bounded_time(name: str) -> None:
    start = time.process_time()
    report = look(HOSTILE[name])
    assert time.process_time() - start < 60
    assert len(report.findings) <= 200
