"""Git, the hostile kind: from a repository's URL and a commit to a manifest and archives in the object store.

``fetch.GitFetcher`` is the one entry point. Below it: ``urls`` says what may be contacted, ``runner`` is the only
place that spawns git, ``mirror`` keeps one bare cache per repository, ``objects`` reads single objects from it,
``changes`` what a commit changed, ``archive`` and ``manifest`` are the formats that outlive the mirror.
"""
